// A calibration with threads as ranks, and the estimate computed from it.
#include <gtest/gtest.h>

#include <mutex>

#include "kernels/backend/runtime.hpp"
#include "src/core/memory.hpp"
#include "src/plan/run_estimate.hpp"

namespace slipway {
namespace {

RunConfig tiny_config(const std::string& optimizer) {
  RunConfig config;
  config.model = {.preset = "llama-1m", .shape = {.layers = 6, .width = 48, .heads = 2, .kv_heads = 2, .ffn = 80}};
  config.train.steps = 10;
  config.train.sequence = 40;
  config.train.batch = 8;
  config.train.micro_batch = 2;
  config.optim.name = optimizer;
  config.reporting.validate_every = 4;
  config.reporting.validate_tokens = 1000;
  config.resolve(100);
  return config;
}

Calibration run_calibration(const RunConfig& config, int ranks, int tensor, CalibrationLimit limit) {
  const Runtime runtime({.threads = 1});
  Calibration result;
  std::mutex mutex;
  run_thread_group(ranks, [&](Group& world_group) {
    Mesh mesh = make_thread_mesh(world_group, tensor);
    const Calibration mine =
        calibrate(config, config.model.spec(300), ranks / tensor, runtime.backend(), mesh, world_group,
                  /*loader=*/nullptr, limit);
    const std::lock_guard lock(mutex);
    EXPECT_TRUE(result.seconds == 0 || result.parts.micro_batch_s == mine.parts.micro_batch_s) << "ranks disagree";
    result = mine;
  });
  return result;
}

constexpr CalibrationLimit kLargeLimit{.seconds = 0.3, .bytes = std::uint64_t{1} << 30};

TEST(CalibrationTest, MeasuresEveryPartOnAnyLayout) {
  for (const auto& [ranks, tensor] : {std::pair(1, 1), {2, 1}, {2, 2}}) {
    for (const char* optimizer : {"AdamW", "Muon"}) {
      const Calibration measured = run_calibration(tiny_config(optimizer), ranks, tensor, kLargeLimit);
      // All 6 layers and both sequences, unless a busy machine or a sanitizer makes them too slow.
      EXPECT_GE(measured.layers, 2);
      EXPECT_LE(measured.layers, 6);
      EXPECT_GE(measured.sequences, 1);
      EXPECT_LE(measured.sequences, 2);
      EXPECT_GE(measured.micro_batches, 1);
      const StepParts& parts = measured.parts;
      for (const double seconds :
           {parts.micro_batch_s, parts.slots_s, parts.reduce_s, parts.update_s, parts.validation_s})
        EXPECT_GT(seconds, 0) << optimizer << " on " << ranks << " ranks";
      EXPECT_LT(parts.validation_s, 2 * parts.micro_batch_s);  // no backward
      EXPECT_GE(measured.seconds, 0.1);
      EXPECT_LT(measured.seconds, 60);
    }
  }
}

TEST(CalibrationTest, ReachesBeyondTheLayersThatMemoryHolds) {
  const RunConfig config = tiny_config("AdamW");
  const Calibration full = run_calibration(config, 1, 1, kLargeLimit);
  ModelSpec three = config.model.spec(300);
  three.layers = 3;
  const std::uint64_t memory_limit = plan_run(config, three, 1).memory.total() + 1;
  const Calibration limited = run_calibration(config, 1, 1, {.seconds = 0.3, .bytes = memory_limit});
  EXPECT_LE(limited.layers, 3) << "more than memory holds";
  EXPECT_GE(limited.layers, 2) << "two are the least for a difference; time may allow no more, as under a sanitizer";
  EXPECT_GT(limited.parts.micro_batch_s, full.parts.micro_batch_s / 10);  // loose: other tests run beside this one
  EXPECT_LT(limited.parts.micro_batch_s, full.parts.micro_batch_s * 10);
  EXPECT_EQ(run_calibration(config, 1, 1, {.seconds = 0.3, .bytes = 1}).layers,
            2);  // two are the least for a difference
}

TEST(ForecastTest, IsTheSumOfItsParts) {
  const RunConfig config = tiny_config("AdamW");
  const ModelSpec model = config.model.spec(300);
  const Calibration measured{.parts = {1.0, 0.25, 0.125, 0.5, 0.0625}, .layers = 6, .sequences = 2, .micro_batches = 3};
  const RunEstimate estimate = estimate_run(config, model, 1, nullptr, 10, 1000, measured);
  EXPECT_DOUBLE_EQ(estimate.step_seconds, 4 * 1.0 + 0.25 + 0.125 + 0.5);
  EXPECT_DOUBLE_EQ(estimate.tokens_per_s, 320 / estimate.step_seconds);
  // Validations after steps 4, 8 and 10, of 1000 tokens in sequences of 40, two at once.
  EXPECT_DOUBLE_EQ(estimate.run_seconds, 10 * estimate.step_seconds + 3 * 13 * 0.0625);
  EXPECT_DOUBLE_EQ(estimate_run(config, model, 4, nullptr, 10, 1000, measured).step_seconds, 1.0 + 0.25 + 0.125 + 0.5);
  EXPECT_EQ(estimate.peak_resident_bytes(), estimate.plan.memory.total() + 1000 + save_buffer_bytes(model));
  const Json json = to_json(estimate);
  EXPECT_EQ(json["predicted"]["step_seconds"], estimate.step_seconds);
  EXPECT_EQ(json["calibration"]["part_seconds"]["update"], 0.5);
  const RunEstimate uncalibrated = estimate_run(config, model, 1, nullptr, 10, 1000, std::nullopt);
  EXPECT_FALSE(to_json(uncalibrated)["predicted"].contains("step_seconds"));
  EXPECT_EQ(uncalibrated.peak_resident_bytes(), estimate.peak_resident_bytes());
}

TEST(MemoryTest, TheSystemSaysWhatThisProcessHolds) {
  constexpr std::size_t kBytes = 40 << 20;
  reset_peak_resident();
  const std::uint64_t rss_before = resident_bytes();
  EXPECT_GT(rss_before, 1U << 20);
  {
    const Buffer<char> block(kBytes);
    EXPECT_GT(resident_bytes(), rss_before + kBytes / 2);
  }
  EXPECT_GT(peak_resident_bytes(), rss_before + kBytes / 2);
  EXPECT_GT(available_memory_bytes(), 1U << 20);
#if !defined(__SANITIZE_ADDRESS__)  // which keeps what is freed
  if (!reset_peak_resident()) GTEST_SKIP() << "this system does not count a peak anew";
  EXPECT_LT(peak_resident_bytes(), rss_before + kBytes / 2);
#endif
}

}  // namespace
}  // namespace slipway
