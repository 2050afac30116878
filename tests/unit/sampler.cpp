// The sampler: which tokens each setting allows.
#include "src/infer/sampler.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "kernels/backend/cpu_backend.hpp"
#include "tests/support/core_files.hpp"

namespace slipway {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
const std::vector<float> kLogits = {0.5f, 2.0f, -1.0f, 1.5f, 2.0f, 0.0f, -3.0f};  // 1 and 4 are equal and the largest

Sampler make_sampler(const SamplingConfig& config, std::uint64_t sequence = 0) {
  return Sampler(cpu_backend(), config, sequence);
}
int next(Sampler& sampler, const std::vector<float>& logits_V, std::uint64_t position, TokenMask allowed = {}) {
  const int V = static_cast<int>(logits_V.size());
  return sampler.next({logits_V.data(), 1, V, V}, position, allowed).front();
}

std::map<int, int> draw_many(const SamplingConfig& config, int draws, TokenMask allowed = {}) {
  Sampler sampler = make_sampler(config);
  std::map<int, int> counts;
  for (int i = 0; i < draws; ++i) ++counts[next(sampler, kLogits, static_cast<std::uint64_t>(i), allowed)];
  return counts;
}

std::set<int> drawn_ids(const SamplingConfig& config) {
  std::set<int> ids;
  for (const auto& [id, count] : draw_many(config, 4000)) ids.insert(id);
  return ids;
}

TEST(SamplerTest, TemperatureZeroTakesTheLargestLogitAndAmongEqualsTheLowestId) {
  EXPECT_EQ(draw_many({.temperature = 0}, 50), (std::map<int, int>{{1, 50}}));
}

TEST(SamplerTest, TopOneIsGreedyAtAnyTemperature) {
  EXPECT_EQ(draw_many({.temperature = 5, .top_k = 1, .top_p = 1}, 50), (std::map<int, int>{{1, 50}}));
}

TEST(SamplerTest, FrequenciesAreThoseOfTheSoftmax) {
  constexpr int kDraws = 40000;
  constexpr double kTolerance = 0.0125;  // five deviations of a share: sqrt(p (1 - p) / draws) <= 0.0025
  for (const double temperature : {0.5, 1.0, 2.0}) {
    double total = 0;
    for (const float logit : kLogits) total += std::exp(static_cast<double>(logit) / temperature);
    std::map<int, int> counts = draw_many({.temperature = temperature, .top_k = 0, .top_p = 1, .seed = 7}, kDraws);
    for (std::size_t v = 0; v < kLogits.size(); ++v)
      EXPECT_NEAR(counts[static_cast<int>(v)] / double{kDraws},
                  std::exp(static_cast<double>(kLogits[v]) / temperature) / total, kTolerance)
          << "temperature " << temperature << " token " << v;
  }
}

TEST(SamplerTest, TopKDrawsFromTheKLikeliestAlone) {
  EXPECT_EQ(drawn_ids({.temperature = 3, .top_k = 2, .top_p = 1}), (std::set<int>{1, 4}));
  EXPECT_EQ(drawn_ids({.temperature = 3, .top_k = 3, .top_p = 1}), (std::set<int>{1, 3, 4}));
  EXPECT_EQ(drawn_ids({.temperature = 3, .top_k = 100, .top_p = 1}), (std::set<int>{0, 1, 2, 3, 4, 5, 6}));
}

TEST(SamplerTest, TopPDrawsFromTheFewestThatHoldTheProbability) {
  // At temperature 1 the shares are 0.349 (1), 0.349 (4), 0.212 (3), 0.078 (0), ...
  EXPECT_EQ(drawn_ids({.temperature = 1, .top_p = 0.30}), (std::set<int>{1}));
  EXPECT_EQ(drawn_ids({.temperature = 1, .top_p = 0.60}), (std::set<int>{1, 4}));
  EXPECT_EQ(drawn_ids({.temperature = 1, .top_p = 0.72}), (std::set<int>{1, 3, 4}));
}

TEST(SamplerTest, TopPCountsWithinWhatTopKLeaves) {
  EXPECT_EQ(drawn_ids({.temperature = 1, .top_k = 2, .top_p = 0.49}), (std::set<int>{1}));
  EXPECT_EQ(drawn_ids({.temperature = 1, .top_k = 2, .top_p = 0.51}), (std::set<int>{1, 4}));
}

TEST(SamplerTest, AKOfTheWholeVocabularyChangesNoDraw) {
  Sampler unlimited = make_sampler({.temperature = 1, .top_k = 0, .top_p = 1, .seed = 3}),
          k = make_sampler({.temperature = 1, .top_k = 7, .top_p = 1, .seed = 3});
  for (std::uint64_t i = 0; i < 500; ++i) ASSERT_EQ(next(unlimited, kLogits, i), next(k, kLogits, i)) << i;
}

TEST(SamplerTest, ATokenDependsOnSeedSequenceAndPositionAndNotOnHistory) {
  const SamplingConfig config{.temperature = 1, .top_p = 1, .seed = 11};
  Sampler ascending = make_sampler(config), descending = make_sampler(config);
  std::vector<int> a, b(200);
  for (std::uint64_t i = 0; i < 200; ++i) a.push_back(next(ascending, kLogits, i));
  for (std::uint64_t i = 200; i-- > 0;) b[i] = next(descending, kLogits, i);
  EXPECT_EQ(a, b);

  const auto run = [](Sampler sampler) {
    std::vector<int> ids;
    for (std::uint64_t i = 0; i < 200; ++i) ids.push_back(next(sampler, kLogits, i));
    return ids;
  };
  EXPECT_NE(a, run(make_sampler({.temperature = 1, .top_p = 1, .seed = 12})));
  EXPECT_NE(a, run(make_sampler(config, /*sequence=*/1)));
}

TEST(SamplerTest, SequencesSideBySideDrawAsEachDoesAlone) {
  const SamplingConfig config{.temperature = 1, .top_p = 1, .seed = 11};
  const int V = static_cast<int>(kLogits.size());
  std::vector<float> logits_BV;
  for (int b = 0; b < 3; ++b) logits_BV.insert(logits_BV.end(), kLogits.begin(), kLogits.end());
  Sampler batched = make_sampler(config, /*sequence=*/4);
  std::vector<Sampler> single;
  for (std::uint64_t b = 0; b < 3; ++b) single.push_back(make_sampler(config, 4 + b));
  for (std::uint64_t i = 0; i < 50; ++i) {
    const std::span<const int> ids = batched.next({logits_BV.data(), 3, V, V}, i);
    for (std::size_t b = 0; b < 3; ++b) ASSERT_EQ(ids[b], next(single[b], kLogits, i)) << i << ", sequence " << b;
  }
}

TEST(SamplerTest, TheMaskForbidsWhateverTheLogitsSay) {
  const std::vector<std::uint8_t> allowed = {1, 0, 1, 1, 0, 0, 0};
  EXPECT_EQ(draw_many({.temperature = 0}, 5, allowed), (std::map<int, int>{{3, 5}}));
  for (const auto& [id, count] : draw_many({.temperature = 4, .top_p = 1}, 2000, allowed))
    EXPECT_TRUE(allowed[static_cast<std::size_t>(id)]) << id;
}

TEST(SamplerTest, AMaskThatAllowsNothingIsRefused) {
  const std::vector<std::uint8_t> none(kLogits.size(), 0);
  expect_error(Fault::kBug, "allows no token", [&] { draw_many({.temperature = 1}, 1, none); });
}

TEST(SamplerTest, LogitsThatAreNoNumbersAreRefusedAndMinusInfinityIsNeverDrawn) {
  const std::vector<float> nan = {0.0f, std::nanf(""), 1.0f}, inf = {0.0f, kInfinity};
  for (const double temperature : {0.0, 1.0}) {
    Sampler sampler = make_sampler({.temperature = temperature});
    expect_error(Fault::kNumeric, "token 1 is nan at position 5", [&] { next(sampler, nan, 5); });
    expect_error(Fault::kNumeric, "token 1 is inf at position 0", [&] { next(sampler, inf, 0); });
  }
  const std::vector<float> minus = {-kInfinity, 0.0f, -kInfinity};
  Sampler sampler = make_sampler({.temperature = 9, .top_p = 1});
  for (std::uint64_t i = 0; i < 100; ++i) EXPECT_EQ(next(sampler, minus, i), 1);
}

TEST(SamplerTest, SettingsThatMeanNothingAreRefusedByName) {
  expect_error(Fault::kConfig, "--temperature", [] { make_sampler({.temperature = -0.1}); });
  expect_error(Fault::kConfig, "--top_k", [] { make_sampler({.top_k = -1}); });
  expect_error(Fault::kConfig, "--top_p", [] { make_sampler({.top_p = 0}); });
  expect_error(Fault::kConfig, "--top_p", [] { make_sampler({.top_p = 1.1}); });
}

}  // namespace
}  // namespace slipway
