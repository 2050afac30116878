// The reports of a run: its summary line, the line of a step, rates and MFU, warnings about stalled training and
// occupied CPUs.
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <thread>

#include "src/config/run_summary.hpp"
#include "src/core/clock.hpp"
#include "src/core/cpu_wait.hpp"
#include "src/monitor/cpu_watch.hpp"
#include "src/monitor/metrics.hpp"
#include "src/monitor/stall_watch.hpp"
#include "src/monitor/throughput.hpp"
#include "src/optim/reduction_slots.hpp"

namespace slipway {
namespace {

constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();

RunConfig resolve_config(const std::function<void(RunConfig&)>& modify, DataSizes data = {64000, 2'000'000}) {
  RunConfig config;
  config.numerics.compute = "f32";
  modify(config);
  config.resolve(data.sequences_per_epoch, data.validation_tokens);
  return config;
}

std::string refusal(const std::function<void(RunConfig&)>& modify) {
  try {
    resolve_config(modify);
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kConfig);
    return error.what();
  }
}

TEST(RunSummaryTest, OneLineSaysHowLongTheRunIsHowTheRateGoesAndHowOftenItIsValidated) {
  const DataSizes data{64000, 2'000'000};
  const RunConfig defaults = resolve_config([](RunConfig& c) { c.model.preset = "llama-1m"; });
  EXPECT_EQ(
      summary_of(defaults, data),
      "run: 1000 steps (default) = 8.19M tokens = 0.25 epochs; cosine 3e-3 to 3e-4, warm-up 100; validation every "
      "300");
  EXPECT_EQ(summary_of(defaults, std::nullopt),
            "run: 1000 steps (default) = 8.19M tokens; cosine 3e-3 to 3e-4, warm-up 100; validation every 300");

  const RunConfig tokens = resolve_config([](RunConfig& c) {
    c.train.tokens = 512'000, c.train.batch = 1, c.optim.schedule = "wsd", c.optim.floor = 0, c.optim.peak_lr = 1.25e-3;
    c.reporting.validate_every = 0;
  });
  EXPECT_EQ(summary_of(tokens, data),
            "run: 1000 steps (train.tokens 512000) = 512k tokens = 0.0156 epochs; wsd 1.25e-3 to 0 in the last 200 "
            "steps, warm-up 100; no validation");

  const RunConfig epochs = resolve_config([](RunConfig& c) { c.train.epochs = 1, c.optim.schedule_steps = 9000; });
  EXPECT_EQ(
      summary_of(epochs, DataSizes{64000, 0}),
      "run: 4000 steps (train.epochs 1) = 32.8M tokens = 1 epoch; cosine 2e-3 to 2e-4 of 9000 steps, warm-up 200; "
      "no validation: the data has no validation split");
  EXPECT_EQ(summary_of(resolve_config([](RunConfig& c) { c.train.steps = 1; }), data).substr(0, 26),
            "run: 1 step = 8.19k tokens");

  const Json json = summary_json(defaults, data);
  EXPECT_EQ(json["steps"], 1000);
  EXPECT_EQ(json["steps_from"], "default");
  EXPECT_EQ(json["tokens"], 8'192'000);
  EXPECT_DOUBLE_EQ(json["epochs"], 0.25);
}

TEST(RunConfigTest, ValidationIsAsOftenAsTwoPercentOfAllOperationsAllow) {
  const auto validation_interval = [](std::int64_t tokens_available, const std::function<void(RunConfig&)>& modify) {
    return resolve_config(modify, {1000, tokens_available}).reporting.validate_every;
  };
  const auto unchanged = [](RunConfig&) {};
  EXPECT_EQ(validation_interval(kMax, unchanged), 300);    // 256 sequences / (3 x 16) = 5.33 steps; 5.33 x 49 = 261
  EXPECT_EQ(validation_interval(50'000, unchanged), 200);  // 98 / 48 x 49 = 100.04
  EXPECT_EQ(validation_interval(49'000, unchanged), 100);  // 96 / 48 x 49 = 98
  EXPECT_EQ(validation_interval(0, unchanged), 100);       // nothing to validate on
  EXPECT_EQ(validation_interval(kMax, [](RunConfig& c) { c.train.batch = 4; }), 1100);     // 21.33 x 49 = 1045
  EXPECT_EQ(validation_interval(kMax, [](RunConfig& c) { c.parallel.tensor = 2; }), 300);  // the same on every layout
  EXPECT_EQ(validation_interval(kMax, [](RunConfig& c) { c.reporting.validate_every = 7; }), 7);
  EXPECT_EQ(validation_interval(kMax, [](RunConfig& c) { c.reporting.validate_every = 0; }), 0);
  EXPECT_NE(refusal([](RunConfig& c) { c.reporting.validate_every = -2; }).find("validate.every is -2"),
            std::string::npos);
}

TEST(RunConfigTest, ProductsOfKeysThatNoNumberHoldsAreRefusedByName) {
  const auto with_tokens = [](std::int64_t tokens, int batch) {
    return [=](RunConfig& c) { c.train.tokens = tokens, c.train.batch = batch; };
  };
  EXPECT_EQ(resolve_config(with_tokens(kMax / 2, 16)).train.steps, kMax / 2 / 8192 + 1);
  for (const auto& modify : {std::function<void(RunConfig&)>(with_tokens(kMax, 16)),
                             std::function<void(RunConfig&)>([](RunConfig& c) { c.train.steps = kMax; })}) {
    const std::string message = refusal(modify);
    EXPECT_NE(message.find("9223372036854775807"), std::string::npos) << message;
    EXPECT_NE(message.find("64-bit"), std::string::npos) << message;
  }
  for (const auto& [layers, width, ffn] :
       {std::tuple{2147483647, 256, 512}, std::tuple{1, 1 << 30, 512}, std::tuple{1, 1 << 20, 2147483647}}) {
    ModelConfig model;
    model.shape.layers = layers, model.shape.width = width, model.shape.ffn = ffn;
    EXPECT_THROW((model.resolve(512), model.spec(512)), Error) << layers << " x " << width << ", " << ffn;
  }
  EXPECT_THROW(ReductionSlots::make(2147483647, 2, 8, 1), Error);  // without walking through two billion divisors
}

StepRecord make_record(std::int64_t step) {
  return {.report = {.step = step, .targets = 4096, .loss = 5.12345, .grad_norm = 1.5, .lr = 1.25e-3, .clipped = true},
          .tokens_per_s = 1234.4,
          .mfu = 0.351,
          .eta_s = 185};
}

TEST(MetricsTest, TheLineForPeopleHasItsPartsInOrder) {
  StepRecord record = make_record(12);
  EXPECT_EQ(
      human_line(record),
      "Step 12 | Train Loss: 5.1235 | Val Loss: - | LR 1.25e-03 | Grad 1.500 (clipped) | tok/s 1234 | MFU 35.1% | "
      "ETA 3m05s");
  record.val_loss = 5.23456;
  EXPECT_NE(human_line(record).find(" | Val Loss: 5.2346 | "), std::string::npos);
}

TEST(MetricsTest, ANarrowTerminalGetsTheFieldsThatFit) {
  const StepRecord record = make_record(1234);
  EXPECT_EQ(human_line(record, 120), human_line(record));
  EXPECT_EQ(human_line(record, 79), "Step 1234 | Train Loss: 5.1235 | tok/s 1234 | MFU 35.1% | ETA 3m05s");
  EXPECT_EQ(human_line(record, 39), "Step 1234 | Train Loss: 5.1235");
  EXPECT_EQ(human_line(record, 5), "Step 1234");  // the terminal code truncates the rest
  for (int columns = 10; columns < 130; ++columns) EXPECT_LE(std::ssize(human_line(record, columns)), columns);
}

/// Returns the seconds that it took: more than requested on a busy machine.
double sleep_ms(int ms) {
  const double begin_s = now_s();
  std::this_thread::sleep_for(std::chrono::milliseconds(ms));
  return now_s() - begin_s;
}

TEST(StepClockTest, WhatIsBesideStepsIsInNoStepsTime) {
  Throughput throughput(/*step_flops=*/1, /*peak_flops=*/1e12);
  StepRecord plain = make_record(1), after_save = make_record(2), after_validation = make_record(3);
  throughput.start();
  sleep_ms(20);
  throughput.measure(plain);
  throughput.exclude(sleep_ms(200));
  sleep_ms(20);
  throughput.measure(after_save);
  EXPECT_GT(after_save.tokens_per_s, 4096 / 0.15);
  EXPECT_LT(throughput.estimate_eta_s(9, 0), 9 * 0.15);
  const double validation_s = sleep_ms(300);
  throughput.exclude_validation(validation_s);
  sleep_ms(20);
  throughput.measure(after_validation);
  EXPECT_GT(after_validation.tokens_per_s, 4096 / 0.15);
  // The validations that are left are in the time to go, as soon as one has been measured.
  EXPECT_NEAR(throughput.estimate_eta_s(8, 2), 2 * validation_s, 8 * 0.15);
  EXPECT_DOUBLE_EQ(throughput.longest_validation_s(), validation_s);
  EXPECT_LT(throughput.longest_step_s(), 0.15);
}

TEST(StepClockTest, MfuIsNeverAboveOneAndItsPeakRisesWithWhatTheRunReaches) {
  constexpr double kFlops = 1e6;
  Throughput throughput(kFlops, /*peak_flops=*/1e3);  // measured on a busy machine
  StepRecord record = make_record(1);
  for (int step = 0; step < 8; ++step) {
    sleep_ms(2);
    throughput.measure(record);
    EXPECT_GT(record.mfu, 0);
    EXPECT_LE(record.mfu, 1);
    if (step < 4) {
      EXPECT_EQ(throughput.peak_flops(), 1e3);  // two reports at once may make one step seem fast
    }
  }
  EXPECT_GT(throughput.peak_flops(), 1e7);
  EXPECT_LT(throughput.peak_flops(), kFlops / 0.002);
}

StepReport make_report(std::int64_t step, double loss, double grad_norm) {
  return {.step = step, .targets = 512, .loss = loss, .grad_norm = grad_norm};
}

TEST(StallWatchTest, AGradientOfZeroIsWarnedOfAtItsStepAndOnce) {
  StallWatch watch(512, {.peak_lr = 100, .max_grad_norm = 0});
  EXPECT_EQ(watch.check(make_report(1, 6.3, 1.5)), "");
  const std::string warning = watch.check(make_report(2, std::log(512.), 0));
  for (const char* substring :
       {"step 2", "gradient is exactly 0", "ln(vocabulary)", "optim.peak_lr (now 100)", "optim.max_grad_norm = 1"})
    EXPECT_NE(warning.find(substring), std::string::npos) << warning;
  EXPECT_EQ(watch.check(make_report(3, std::log(512.), 0)), "");

  StallWatch other_watch(512, {.peak_lr = 1});
  const std::string other = other_watch.check(make_report(7, 3.5, 0));
  EXPECT_NE(other.find("step 7: the gradient is exactly 0 at a loss of 3.5:"), std::string::npos) << other;
  EXPECT_EQ(other.find("max_grad_norm"), std::string::npos) << other;
}

TEST(StallWatchTest, ALossThatStaysAtGuessingIsWarnedOfAndOneThatPassesThroughIsNot) {
  const double uniform = std::log(512.);
  StallWatch learning(512, {});
  for (int step = 1; step < 40; ++step)
    EXPECT_EQ(learning.check(make_report(step, uniform + 0.002 - 1e-4 * step, 0.1)), "");
  StallWatch stalled(512, {});
  for (int step = 1; step < 5; ++step) EXPECT_EQ(stalled.check(make_report(step, uniform + 1e-6, 1e-9)), "");
  EXPECT_NE(stalled.check(make_report(5, uniform, 1e-9)).find("step 5: the loss has stayed at ln(vocabulary)"),
            std::string::npos);
  StallWatch empty(512, {});
  EXPECT_EQ(empty.check({.step = 1, .targets = 0}), "");  // a step without targets has no gradient by right
}

TEST(CpuWatchTest, TheRankThatWaitsForACpuIsNamedAndOneThatHasItsOwnIsNot) {
  const std::vector<RankCpus> quiet = {{2, 2.0, 0.01}, {2, 1.2, 0.1}};  // the second one sleeps: no sign
  EXPECT_EQ(cpu_warning(quiet, 2, 16), "");
  const std::vector<RankCpus> busy = {{2, 2.0, 0.01}, {2, 1.25, 0.434}};
  const std::string warning = cpu_warning(busy, 2, 16);
  for (const char* substring :
       {"step 16", "rank 1 got 1.2 CPUs for 2 threads, of which one waited 43 % of the time", "runtime.threads"})
    EXPECT_NE(warning.find(substring), std::string::npos) << warning;
}

TEST(CpuWatchTest, TheShareIsThatOfTheThreadThatWaitedMost) {
  const CpuTimes before{10, 5, {{7, 1.0}, {8, 1.0}}}, after{12, 7.5, {{7, 1.1}, {8, 2.0}, {9, 50}}};
  const CpuUsage share = cpu_usage_between(before, after);
  EXPECT_DOUBLE_EQ(share.cpus, 1.25);
  EXPECT_DOUBLE_EQ(share.wait, 0.5);
  const auto times = cpu_times();  // not every system counts it
  EXPECT_TRUE(!times || !times->wait_s.empty());
}

}  // namespace
}  // namespace slipway
