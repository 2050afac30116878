// bench: the arithmetic of its report, its floor, and a real run.
#include "src/eval/bench.hpp"

#include <gtest/gtest.h>

#include "kernels/backend/cpu_backend.hpp"
#include "tests/support/core_files.hpp"
#include "tests/support/random_model.hpp"
#include "tests/support/tiny_tokenizer.hpp"

namespace slipway {
namespace {

ModelBundle tiny_bundle() {
  const ModelSpec spec = test::tiny_spec("llama", true);
  return {.path = "tiny",
          .kind = "checkpoint",
          .spec = spec,
          .tokenizer = std::make_shared<Tokenizer>(test::tiny_tokenizer(spec.vocabulary)),
          .source = std::make_shared<test::RandomWeights>(spec, /*seed=*/3)};
}

TEST(BenchTest, APercentileIsTheSmallestSampleThatEnoughOthersDoNotExceed) {
  const std::vector<double> samples = {5, 1, 4, 2, 3};
  EXPECT_EQ(percentile(samples, 0.5), 3);
  EXPECT_EQ(percentile(samples, 0.95), 5);
  EXPECT_EQ(percentile(samples, 0.2), 1);
  EXPECT_EQ(percentile(samples, 0.21), 2);
  EXPECT_EQ(percentile({7}, 0.5), 7);
}

TEST(BenchTest, SpeedsAreTokensOfAllSequencesOverMedianTimes) {
  const BenchConfig config{.prompt = 100, .tokens = 2, .batch = 3, .iterations = 3};
  const std::vector<BenchSample> samples = {
      {50, 51, {1, 3}}, {40, 41, {2, 6}}, {100, 103, {1, 5}}};  // decoding takes 4, 8 and 6 ms
  const BenchReport report = judge_bench(samples, config, QaPolicy::built_in());
  EXPECT_DOUBLE_EQ(report.json["prompt_tokens_per_s"], 3 * 100 / 0.050);
  EXPECT_DOUBLE_EQ(report.json["decode_tokens_per_s"], 3 * 2 / 0.006);
  EXPECT_DOUBLE_EQ(report.json["first_token_ms"], 51);
  EXPECT_DOUBLE_EQ(report.json["decode_token_spread_ms"]["p50"], 2);
  EXPECT_DOUBLE_EQ(report.json["decode_token_spread_ms"]["p95"], 6);
  EXPECT_DOUBLE_EQ(report.json["decode_variation"], 2.0 / 6.0);  // deviations -2, 2, 0 about 6, divided by n - 1
  EXPECT_EQ(report.json["samples"].size(), 3u);
  EXPECT_EQ(report.json["samples"][1]["token_ms"], Json::array({2.0, 6.0}));
  EXPECT_TRUE(report.passed);  // an unsteady machine warns
  EXPECT_EQ(report.json["gates_warned"], 1);
}

TEST(BenchTest, ASpeedOfZeroFails) {
  const BenchReport report =
      judge_bench(std::vector<BenchSample>{{0, 0, {0}}}, {.prompt = 1, .tokens = 1}, QaPolicy::built_in());
  EXPECT_FALSE(report.passed);
  EXPECT_EQ(report.json["passed"], false);
  EXPECT_EQ(report.blocking_gates, "bench_prompt_speed, bench_decode_speed");
}

TEST(BenchTest, ARunHasEverySampleAndNamesWhatRan) {
  LoadedModel model(tiny_bundle(), {.threads = 1});
  const BenchConfig config{.prompt = 9, .tokens = 5, .batch = 2, .iterations = 3, .warmup = 1};
  const Json json = run_bench(model, config, QaPolicy::built_in()).json;
  EXPECT_EQ(json["weight_bytes_per_step"], model.model().matmul_weight_bytes());
  for (const char* key : {"decode_tokens_per_s", "prompt_tokens_per_s", "first_token_ms", "decode_weight_bytes_per_s"})
    EXPECT_GT(json[key].get<double>(), 0) << key;
  ASSERT_EQ(json["samples"].size(), 3u);
  for (const Json& sample : json["samples"]) EXPECT_EQ(sample["token_ms"].size(), 5u);
  EXPECT_EQ(json["compute_class"], join(cpu_backend().name, "/", cpu_backend().gemm_library, "/f32"));
  EXPECT_EQ(json["model_sha256"], model.weights_sha256());
  EXPECT_EQ(json["threads"], 1);
  EXPECT_EQ(json["stored_type"], "f32");
}

TEST(BenchTest, SizesThatCannotBeAreRefusedByName) {
  LoadedModel model(tiny_bundle(), {.threads = 1});
  expect_error(Fault::kConfig, "--prompt is 0", [&] { run_bench(model, {.prompt = 0}, QaPolicy::built_in()); });
  expect_error(Fault::kConfig, "--batch is -1", [&] { run_bench(model, {.batch = -1}, QaPolicy::built_in()); });
  expect_error(Fault::kConfig, "--iterations is 0", [&] { run_bench(model, {.iterations = 0}, QaPolicy::built_in()); });
}

}  // namespace
}  // namespace slipway
