// Parts of the trainer: assignment of reduction slots, the fixed order of sums, the learning rate.
#include <gtest/gtest.h>

#include <cmath>

#include "src/model/model_tensors.hpp"
#include "src/optim/reduction_slots.hpp"
#include "src/plan/plan.hpp"
#include "src/train/schedule_changes.hpp"
#include "tests/support/core_files.hpp"

namespace slipway {
namespace {

std::string refusal(int batch, int micro_batch, int slots, int ranks) {
  try {
    ReductionSlots::make(batch, micro_batch, slots, ranks);
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kConfig);
    return error.what();
  }
}

TEST(SlotPlanTest, SlotsAreTheLargestPowerOfTwoThatDividesTheMicroBatches) {
  EXPECT_EQ(ReductionSlots::make(16, 2, 8, 1).slots, 8);
  EXPECT_EQ(ReductionSlots::make(12, 1, 8, 1).slots, 4);  // 12 = 4 x 3
  EXPECT_EQ(ReductionSlots::make(12, 1, 8, 1).micro_batches_per_slot(), 3);
  EXPECT_EQ(ReductionSlots::make(7, 1, 8, 1).slots, 1);
  EXPECT_EQ(ReductionSlots::make(64, 1, 8, 4).first_slot(3), 6);
}

TEST(SlotPlanTest, TheDefaultMicroBatchFillsTheSlots) {
  EXPECT_EQ(ReductionSlots::default_micro_batch(16, 8), 2);
  EXPECT_EQ(ReductionSlots::default_micro_batch(12, 8), 3);
  EXPECT_EQ(ReductionSlots::default_micro_batch(5, 8), 5);
  EXPECT_EQ(ReductionSlots::default_micro_batch(64, 4), 16);
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
  const double expected = ((1e16 + 1) + (1.0 + 1)) + ((-1e16 + 1) + (1.0 + 1));
  EXPECT_EQ(reduce_slots(values, 8), expected);
  EXPECT_EQ(reduce_slots(values, 1), ((((((1e16 + 1) + 1) + 1) - 1e16) + 1) + 1) + 1);
  EXPECT_EQ(reduce_slots({values.data(), 2}, 2), 1e16 + 1);
}

TEST(ScheduleTest, RisesLinearlyThenFallsAsACosineToItsFloorAndStaysThere) {
  const LrSchedule schedule{.peak = 2.0, .floor = 0.1, .warmup = 4, .horizon = 104};
  EXPECT_DOUBLE_EQ(schedule.lr(0), 0.5);
  EXPECT_DOUBLE_EQ(schedule.lr(3), 2.0);
  EXPECT_DOUBLE_EQ(schedule.lr(4), 2.0);
  EXPECT_NEAR(schedule.lr(54), 2.0 * (0.1 + 0.9 * 0.5), 1e-12);
  EXPECT_NEAR(schedule.lr(104), 0.2, 1e-12);
  EXPECT_NEAR(schedule.lr(1000), 0.2, 1e-12);
}

TEST(ScheduleTest, WsdStaysAtItsPeakUntilTheLastStepsAndEndsAtItsFloor) {
  const LrSchedule schedule{
      .peak = 2.0, .floor = 0.1, .warmup = 4, .horizon = 104, .decay_shape = DecayShape::kWsd, .decay = 25};
  EXPECT_DOUBLE_EQ(schedule.lr(0), 0.5);
  for (const int step : {3, 4, 50, 78, 79}) EXPECT_DOUBLE_EQ(schedule.lr(step), 2.0) << step;
  EXPECT_NEAR(schedule.lr(80), 2.0 * (0.1 + 0.9 * (1 - std::sqrt(0.04))), 1e-12);  // a 25th of the way
  EXPECT_NEAR(schedule.lr(83), 2.0 * (0.1 + 0.9 * 0.6), 1e-12);                    // 4 of 25
  EXPECT_NEAR(schedule.lr(103), 2.0 * (0.1 + 0.9 * (1 - std::sqrt(0.96))), 1e-12);
  EXPECT_NEAR(schedule.lr(104), 0.2, 1e-12);
  EXPECT_NEAR(schedule.lr(1000), 0.2, 1e-12);
  const LrSchedule no_warmup{.peak = 2.0, .floor = 0.1, .warmup = 1, .horizon = 1, .decay_shape = DecayShape::kWsd};
  EXPECT_DOUBLE_EQ(no_warmup.lr(0), 2.0);
  EXPECT_DOUBLE_EQ(no_warmup.lr(1), 0.2);
}

TEST(OptimConfigTest, NamesHaveOneSpellingAndStepsFollowTheRun) {
  OptimConfig muon{.name = "muon", .schedule = "wsd"};
  muon.resolve(1000, 0.5);
  EXPECT_EQ(muon.peak_lr, 1.5);
  EXPECT_TRUE(muon.is_muon());
  EXPECT_EQ(muon.name, "Muon");
  EXPECT_EQ(muon.schedule_steps, 1000);
  EXPECT_EQ(muon.warmup_steps, 100);
  EXPECT_EQ(muon.decay_steps, 200);
  OptimConfig short_run{.name = "adamw", .schedule = "wsd", .peak_lr = 1, .warmup_steps = 9};
  short_run.resolve(10, 0.5);
  EXPECT_EQ(short_run.peak_lr, 1);
  EXPECT_EQ(short_run.name, "AdamW");
  EXPECT_EQ(short_run.decay_steps, 1);  // the steps left after the warmup
  OptimConfig cosine;
  cosine.resolve(1000, 0.5);
  EXPECT_EQ(cosine.peak_lr, 0.5);
  EXPECT_EQ(cosine.decay_steps, 0);
}

TEST(OptimConfigTest, WhatCannotBeIsRefusedByItsKey) {
  const std::pair<OptimConfig, std::vector<const char*>> kCases[] = {
      {{.name = "Lion"}, {"optim.name is Lion", "AdamW or Muon"}},
      {{.schedule = "linear"}, {"optim.schedule is linear", "cosine or wsd"}},
      {{.momentum = 1}, {"optim.momentum is 1"}},
      {{.decay_steps = -1}, {"optim.decay_steps is -1"}},
      {{.decay_steps = 5}, {"optim.decay_steps is 5", "optim.schedule is cosine", "wsd"}},
      {{.schedule = "wsd", .warmup_steps = 60, .decay_steps = 41},
       {"optim.decay_steps is 41", "40 steps after its warmup"}},
      {{.warmup_steps = 101}, {"optim.warmup_steps is 101", "100 steps"}},
  };
  for (auto [config, says] : kCases) {
    try {
      config.resolve(100, 1);
      ADD_FAILURE() << says.front() << " must be refused";
    } catch (const Error& error) {
      EXPECT_EQ(error.fault(), Fault::kConfig);
      for (const char* substring : says)
        EXPECT_NE(std::string(error.what()).find(substring), std::string::npos) << error.what();
    }
  }
}

TEST(RunConfigTest, TokensAndEpochsCountWhatIsDoneInOtherBatches) {
  const auto steps = [](RunConfig config, const RunProgress& progress) {
    config.train.batch = 8, config.train.sequence = 10;
    config.resolve(/*sequences_per_epoch=*/100, /*validation_tokens=*/0, progress);
    return config.train.steps;
  };
  RunConfig tokens, epochs;
  tokens.train.tokens = 1000, epochs.train.epochs = 2;
  EXPECT_EQ(steps(tokens, {}), 13);
  EXPECT_EQ(steps(tokens, {.steps = 4, .consumed_tokens = 320, .consumed_sequences = 32}),
            13);  // batches of the same size
  EXPECT_EQ(steps(tokens, {.steps = 4, .consumed_tokens = 160, .consumed_sequences = 16}), 15);  // half as large so far
  EXPECT_EQ(steps(tokens, {.steps = 4, .consumed_tokens = 2000, .consumed_sequences = 200}), 4);  // nothing is left
  EXPECT_EQ(steps(epochs, {}), 25);
  EXPECT_EQ(steps(epochs, {.steps = 4, .consumed_tokens = 160, .consumed_sequences = 16}), 27);
}

TEST(RunConfigTest, AContextThatIsNotTrainedIsWarnedOf) {
  const auto warnings = [](int context) {
    RunConfig config;
    config.model.shape.context = context;
    config.resolve(100);
    return config.warnings();
  };
  EXPECT_TRUE(warnings(0).empty());
  EXPECT_TRUE(warnings(512).empty());
  ASSERT_EQ(warnings(1024).size(), 1U);
  EXPECT_NE(warnings(1024)[0].find("longer context than it is trained on; --model.context 512"), std::string::npos);
  ASSERT_EQ(warnings(128).size(), 1U);
  EXPECT_NE(warnings(128)[0].find("shorter context than it is trained on; --model.context 512"), std::string::npos);
}

TEST(ScheduleChangesTest, LengtheningShorteningAndStretchingAreWarnedOfOnce) {
  const auto make_schedule = [](std::int64_t steps, std::int64_t horizon, double peak = 1.0) {
    return RunSchedule{steps, {.peak = peak, .floor = 0.1, .warmup = 10, .horizon = horizon}};
  };
  const auto single = [](const std::vector<std::string>& found) {
    return found.size() == 1 ? found[0] : join(found.size());
  };
  EXPECT_TRUE(schedule_warnings(std::nullopt, make_schedule(100, 100), 0, false).empty());
  EXPECT_TRUE(schedule_warnings(make_schedule(100, 100), make_schedule(100, 100), 50, false).empty());
  EXPECT_EQ(single(schedule_warnings(make_schedule(100, 100), make_schedule(200, 100), 100, false)),
            "steps 101 to 200 train at the floor of the learning rate, 1.00e-01: the schedule ends at "
            "optim.schedule_steps 100; --optim.schedule_steps 200 stretches it over the whole run");
  EXPECT_EQ(single(schedule_warnings(make_schedule(100, 100), make_schedule(50, 100), 20, false))
                .find("the run ends at step 50 with a learning rate of 6.4"),
            0U);
  EXPECT_EQ(single(schedule_warnings(make_schedule(100, 100), make_schedule(100, 200), 50, true))
                .find("the learning rate jumps at step 51: it was to be 6."),
            0U);
  // The old horizon is named only where it alone brings the old rate back.
  EXPECT_NE(single(schedule_warnings(make_schedule(100, 100), make_schedule(100, 200), 50, true))
                .find("--optim.schedule_steps 100 keeps"),
            std::string::npos);
  EXPECT_NE(single(schedule_warnings(make_schedule(100, 100), make_schedule(200, 200), 50, true))
                .find("goes over all 200 steps"),
            std::string::npos);  // stretched, as the page on training says
  RunSchedule warmer = make_schedule(100, 200);
  warmer.lr_schedule.warmup = 80;
  EXPECT_NE(
      single(schedule_warnings(make_schedule(100, 100), warmer, 50, true)).find("leave them out to keep the old rate"),
      std::string::npos);
  EXPECT_TRUE(schedule_warnings(make_schedule(200, 100), make_schedule(200, 100), 100, false)
                  .empty());  // said when it was asked for
  EXPECT_TRUE(schedule_warnings(make_schedule(100, 100), make_schedule(200, 100), 100, true)
                  .empty());  // chosen for this length
  EXPECT_TRUE(schedule_warnings(make_schedule(100, 100), make_schedule(100, 200), 100, true)
                  .empty());  // nothing is left to train
  EXPECT_NE(single(schedule_warnings(std::nullopt, make_schedule(200, 100), 0, false)).find("steps 101 to 200"),
            std::string::npos);  // a template's
}

TEST(PlanTest, MuonKeepsOneMomentOfHiddenMatricesAndStatesItsPrice) {
  RunConfig config{.model = {.preset = "llama-8m"}};
  config.numerics.compute = "f32";
  config.resolve(1000);
  const ModelSpec model = config.model.spec(4096);
  const std::uint64_t hidden = static_cast<std::uint64_t>(matmul_parameters(model)) - 4096U * 256U;
  const RunPlan adamw = plan_run(config, model, 1);
  config.optim.name = "Muon";
  const RunPlan one_rank = plan_run(config, model, 1), four_ranks = plan_run(config, model, 4);
  EXPECT_EQ(adamw.memory.orthogonalization + adamw.orthogonalization_bytes, 0U);
  EXPECT_EQ(adamw.memory.moments - one_rank.memory.moments, 4 * hidden);
  EXPECT_EQ(adamw.checkpoint_bytes - one_rank.checkpoint_bytes, 4 * hidden);
  EXPECT_EQ(one_rank.orthogonalization_bytes, 0U);
  EXPECT_EQ(four_ranks.orthogonalization_bytes, 2 * 4 * hidden * 3 / 16);
  double flops = 0;  // 5 (4 M^2 N + 2 M^3), of 4 matrices 256 x 256 and 3 of 256 x 512 in 12 layers
  for (const double N : {256, 256, 256, 256, 512, 512, 512})
    flops += 12 * 5 * (4 * 256. * 256 * N + 2 * 256. * 256 * 256);
  EXPECT_DOUBLE_EQ(one_rank.step_orthogonalization_flops, flops);
  EXPECT_NEAR(four_ranks.step_orthogonalization_flops, flops / 4, 0.04 * flops / 4);
  EXPECT_EQ(one_rank.memory.orthogonalization, 4U * (256 * 512 + 2 * 256 * 256));
}

TEST(ModelConfigTest, PresetsHaveTheParametersThatTheInterfaceStates) {
  const std::pair<const char*, double> kSizes[] = {{"1m", 0.8e6},   {"8m", 7.9e6},  {"30m", 30.1e6}, {"124m", 84.9e6},
                                                   {"500m", 358e6}, {"1b", 0.97e9}, {"7b", 6.5e9}};
  for (const auto& [size, parameters] : kSizes) {
    ModelConfig config{.preset = join("llama-", size)};
    config.resolve(512);
    EXPECT_NEAR(static_cast<double>(parameter_count(config.spec(50304), false)), parameters, 0.02 * parameters) << size;
    EXPECT_EQ(config.shape.context, 512);
  }
  ModelConfig config{.preset = "llama-124m"};
  config.resolve(4096);
  EXPECT_EQ(config.shape.context, 4096);
  EXPECT_NEAR(static_cast<double>(parameter_count(config.spec(50304), true)), 123.6e6, 0.1e6);
  ModelConfig gpt2{.preset = "gpt2-1m"};
  gpt2.resolve(512);
  const std::int64_t layer = 4 * 128 * 128 + 4 * 128 + 2 * 128 * 512 + 512 + 128 + 4 * 128;
  EXPECT_EQ(parameter_count(gpt2.spec(1000), false), 4 * layer + 2 * 128);
  EXPECT_EQ(parameter_count(gpt2.spec(1000), true), 4 * layer + 2 * 128 + (1000 + 512) * 128);
  EXPECT_EQ(matmul_parameters(gpt2.spec(1000)), 4 * (4 * 128 * 128 + 2 * 128 * 512) + 1000 * 128);
}

TEST(ModelConfigTest, WhatFollowsFromTheFamilyFollows) {
  const auto resolve_shape = [](const std::string& preset, auto modify) {
    ModelConfig config{.preset = preset};
    modify(config.shape);
    config.resolve(512);
    return config.shape;
  };
  const ModelSpec gpt2 = resolve_shape("gpt2-1m", [](ModelSpec& shape) { shape.heads = 8; });
  EXPECT_EQ(gpt2.kv_heads, 8);
  EXPECT_EQ(gpt2.head_width, 16);
  EXPECT_EQ(resolve_shape("llama-1m", [](ModelSpec& shape) { shape.heads = 8; }).kv_heads, 2);
  const auto blocks = [&](const std::string& preset, const char* pattern) {
    return resolve_shape(preset, [&](ModelSpec& shape) { shape.blocks = pattern; }).blocks;
  };
  EXPECT_EQ(blocks("gpt2-1m", "attention*4"), "attention+gelu") << "as files call what they leave out";
  EXPECT_EQ(blocks("llama-1m", "attention,attention+swiglu"), "attention+swiglu");
  EXPECT_EQ(blocks("llama-1m", "attention*3,attention+gelu"), "attention*3,attention+gelu");
  const auto expect_refused = [&](const std::string& preset, const std::string& substring, auto modify) {
    expect_error(Fault::kConfig, substring, [&] { resolve_shape(preset, modify); });
  };
  expect_refused("llama-1m", "the RoPE factor is 1, expected more than 1 with RoPE scaling linear",
                 [](ModelSpec& shape) { shape.rope_scaling = "linear"; });
  expect_refused("gpt2-1m", "gpt2 has 4 heads and 2 key-value heads", [](ModelSpec& shape) { shape.kv_heads = 2; });
  expect_refused("gpt2-1m", "model.context is 256 but train.sequence is 512",
                 [](ModelSpec& shape) { shape.context = 256; });
  expect_refused("llama-1m", "model.blocks has 'attention+relu'",
                 [](ModelSpec& shape) { shape.blocks = "attention+relu"; });
  expect_refused("bert", "write a family (llama, qwen2, qwen3 and gpt2), a dash and a size", [](ModelSpec&) {});
}

}  // namespace
}  // namespace slipway
