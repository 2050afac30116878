// The trainer's small parts: which slot is whose, the one order of sums, the learning rate, the printed line.
#include <gtest/gtest.h>

#include "src/train/metrics.hpp"
#include "src/train/schedule.hpp"
#include "src/train/slots.hpp"

namespace slipway {
namespace {

std::string refusal(int batch, int micro_batch, int slots, int ranks) {
  try {
    SlotPlan::make(batch, micro_batch, slots, ranks);
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kConfig);
    return error.what();
  }
}

TEST(SlotPlanTest, SlotsAreTheLargestPowerOfTwoThatDividesTheMicroBatches) {
  EXPECT_EQ(SlotPlan::make(16, 2, 8, 1).slots, 8);
  EXPECT_EQ(SlotPlan::make(12, 1, 8, 1).slots, 4);  // 12 = 4 x 3
  EXPECT_EQ(SlotPlan::make(12, 1, 8, 1).micro_batches_per_slot(), 3);
  EXPECT_EQ(SlotPlan::make(7, 1, 8, 1).slots, 1);
  EXPECT_EQ(SlotPlan::make(64, 1, 8, 4).first_slot(3), 6);
}

TEST(SlotPlanTest, TheDefaultMicroBatchFillsTheSlots) {
  EXPECT_EQ(SlotPlan::default_micro_batch(16, 8), 2);
  EXPECT_EQ(SlotPlan::default_micro_batch(12, 8), 3);
  EXPECT_EQ(SlotPlan::default_micro_batch(5, 8), 5);
  EXPECT_EQ(SlotPlan::default_micro_batch(64, 4), 16);
}

TEST(SlotPlanTest, WhatCannotBeIsRefusedWithTheNearestThatCan) {
  EXPECT_NE(refusal(16, 3, 8, 1).find("2 or 4"), std::string::npos) << refusal(16, 3, 8, 1);
  EXPECT_NE(refusal(16, 2, 6, 1).find("power of two"), std::string::npos);
  EXPECT_NE(refusal(16, 2, 8, 3).find("start 2 data ranks"), std::string::npos) << refusal(16, 2, 8, 3);
  EXPECT_NE(refusal(4, 1, 8, 8).find("start 4 data ranks"), std::string::npos) << refusal(4, 1, 8, 8);
  EXPECT_EQ(refusal(16, 2, 8, 8), "");
}

TEST(SlotPlanTest, SumsJoinInOneTreeWhateverTheRanks) {
  // 1e16 swallows a 1 that is added to it alone: the order of additions shows in the result.
  const std::vector<double> values = {1e16, 1, 1, 1, -1e16, 1, 1, 1};
  const double want = ((1e16 + 1) + (1.0 + 1)) + ((-1e16 + 1) + (1.0 + 1));
  EXPECT_EQ(join_slots(values, 8), want);
  EXPECT_EQ(join_slots(values, 1), ((((((1e16 + 1) + 1) + 1) - 1e16) + 1) + 1) + 1);
  EXPECT_EQ(join_slots({values.data(), 2}, 2), 1e16 + 1);
}

TEST(ScheduleTest, RisesLinearlyThenFallsAsACosineToItsFloorAndStaysThere) {
  const Schedule schedule{.peak = 2.0, .floor = 0.1, .warmup = 4, .horizon = 104};
  EXPECT_DOUBLE_EQ(schedule.lr(0), 0.5);
  EXPECT_DOUBLE_EQ(schedule.lr(3), 2.0);
  EXPECT_DOUBLE_EQ(schedule.lr(4), 2.0);
  EXPECT_NEAR(schedule.lr(54), 2.0 * (0.1 + 0.9 * 0.5), 1e-12);
  EXPECT_NEAR(schedule.lr(104), 0.2, 1e-12);
  EXPECT_NEAR(schedule.lr(1000), 0.2, 1e-12);
}

TEST(MetricsTest, TheLineForPeopleHasItsPartsInOrder) {
  const StepRecord record{
      .report = {.step = 12, .targets = 4096, .loss = 5.12345, .grad_norm = 1.5, .lr = 1.25e-3, .clipped = true},
      .tokens_per_s = 1234.4,
      .mfu = 0.351,
      .eta_s = 185};
  EXPECT_EQ(human_line(record, 5.23456),
            "Step 12 | Train Loss: 5.1235 | Val Loss: 5.2346 | LR 1.25e-03 | Grad 1.500 (clipped) | tok/s 1234 | MFU "
            "35.1% | ETA 3m05s");
  EXPECT_NE(human_line(record, std::nullopt).find("Val Loss: - |"), std::string::npos);
}

TEST(ModelConfigTest, PresetsHaveTheParametersThatTheInterfaceStates) {
  const std::pair<const char*, double> kSizes[] = {{"1m", 0.8e6},   {"8m", 7.9e6},  {"30m", 30.1e6}, {"124m", 84.9e6},
                                                   {"500m", 358e6}, {"1b", 0.97e9}, {"7b", 6.5e9}};
  for (const auto& [size, parameters] : kSizes) {
    ModelConfig config{.preset = join("llama-", size)};
    config.resolve(512);
    EXPECT_NEAR(static_cast<double>(parameter_count(config.describe(50304), false)), parameters, 0.02 * parameters)
        << size;
    EXPECT_EQ(config.context, 1024);
  }
  ModelConfig config{.preset = "llama-124m"};
  config.resolve(4096);
  EXPECT_EQ(config.context, 4096);
  EXPECT_NEAR(static_cast<double>(parameter_count(config.describe(50304), true)), 123.6e6, 0.1e6);
}

}  // namespace
}  // namespace slipway
