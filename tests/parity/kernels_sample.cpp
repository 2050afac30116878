// Tokens of every backend against the draw's definition: all weights in f64, sorted.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "tests/support/test_matrix.hpp"

namespace slipway {
namespace {

using namespace testing_support;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr double kMaxUniform = 1 - 0x1p-53;  // the largest uniform number
constexpr int kSizes[] = {1, 31, 33, 127, 4099};

/// How a row is drawn.
struct Settings {
  double temperature = 1;
  int top_k = 0;
  double top_p = 1;
};

/// kernels/sample.hpp's definition, for logits that are numbers and a mask that allows something.
int oracle(std::span<const float> logits, std::span<const std::uint8_t> allowed, const Settings& settings, double u) {
  std::vector<int> ids;
  float largest = -kInfinity;
  for (std::size_t v = 0; v < logits.size(); ++v)
    if (allowed.empty() || allowed[v] != 0) ids.push_back(static_cast<int>(v)), largest = std::max(largest, logits[v]);
  const auto weight = [&](int v) {
    return std::exp(static_cast<double>(logits[static_cast<std::size_t>(v)] - largest) / settings.temperature);
  };
  const bool is_greedy = settings.temperature == 0 || settings.top_k == 1 || largest == -kInfinity;
  std::ranges::stable_sort(ids, [&](int a, int b) {
    if (is_greedy) return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
    return weight(a) > weight(b);
  });
  if (is_greedy) return ids.front();
  if (settings.top_k > 0 && static_cast<std::size_t>(settings.top_k) < ids.size())
    ids.resize(static_cast<std::size_t>(settings.top_k));
  std::vector<double> sums;
  for (const int v : ids) sums.push_back((sums.empty() ? 0 : sums.back()) + weight(v));
  if (settings.top_p < 1)
    sums.resize(static_cast<std::size_t>(std::ranges::lower_bound(sums, settings.top_p * sums.back()) - sums.begin()) +
                1);
  const auto index = std::ranges::upper_bound(sums, u * sums.back()) - sums.begin();
  return ids[static_cast<std::size_t>(std::min<std::ptrdiff_t>(index, std::ssize(sums) - 1))];
}

/// Sums of V numbers in two orders differ by less, as a share of the sum: what decides between neighbours may lie so
/// close that both are right.
constexpr double kRelativeTolerance = 1e-12;

class SampleTest : public KernelTest {
 protected:
  std::vector<int> draw(Matrix<const float> logits_BV, Matrix<const std::uint8_t> allowed_BV, const Settings& settings,
                        const std::vector<double>& uniform_B) {
    std::vector<int> ids(static_cast<std::size_t>(logits_BV.rows), -12345);
    backend().sample(stream, {.logits_BV = logits_BV,
                              .allowed_BV = allowed_BV,
                              .uniform_B = uniform_B.data(),
                              .temperature = settings.temperature,
                              .top_k = settings.top_k,
                              .top_p = settings.top_p,
                              .id_B = ids.data()});
    return ids;
  }
  /// One row for each uniform number, all with the same logits, unless there are as many rows.
  void expect_matches_oracle(const TestMatrix& logits, std::span<const std::uint8_t> allowed, const Settings& settings,
                             const std::vector<double>& uniforms, const std::string& what) {
    const int B = static_cast<int>(uniforms.size()), V = logits.cols();
    const bool shared_row = logits.rows() == 1;
    const Matrix<const float> rows{logits.row(0), B, V, shared_row ? 0 : logits.view().stride};
    const std::vector<int> actual = draw(rows, {allowed.data(), 1, V, V}, settings, uniforms);
    for (std::size_t b = 0; b < uniforms.size(); ++b) {
      const std::span<const float> row(logits.row(shared_row ? 0 : static_cast<int>(b)), static_cast<std::size_t>(V));
      bool is_match = false;
      for (const double p : {1.0, 1 - kRelativeTolerance, 1 + kRelativeTolerance})
        for (const double u : {1.0, 1 - kRelativeTolerance, 1 + kRelativeTolerance}) {
          const Settings nearby{settings.temperature, settings.top_k, settings.top_p < 1 ? settings.top_p * p : 1};
          is_match = is_match || actual[b] == oracle(row, allowed, nearby, std::min(uniforms[b] * u, kMaxUniform));
        }
      ASSERT_TRUE(is_match) << what << ": V=" << V << " temperature " << settings.temperature << " top_k "
                            << settings.top_k << " top_p " << settings.top_p << " u " << uniforms[b] << ": token "
                            << actual[b] << ", expected " << oracle(row, allowed, settings, uniforms[b]);
    }
  }
};

const std::vector<Settings> kAllSettings = {
    {.temperature = 0},
    {.temperature = 2, .top_k = 1},
    {.temperature = 1},
    {.temperature = 0.3, .top_k = 5},
    {.temperature = 0.8, .top_p = 0.95},
    {.temperature = 3, .top_k = 20, .top_p = 0.7},
    {.temperature = 1, .top_k = 1 << 30, .top_p = 1e-9},
    {.temperature = 1e-3},
    {.temperature = 1e9, .top_p = 0.5},
};
const std::vector<double> kUniforms = {0, 1e-300, 0.2, 0.5, 0.97, kMaxUniform};

TEST_P(SampleTest, TokensAreThoseOfTheDefinition) {
  for (const int V : kSizes)
    for (const Settings& settings : kAllSettings)
      ASSERT_NO_FATAL_FAILURE(expect_matches_oracle(normal(static_cast<int>(kUniforms.size()), V, 1, 4.0f), {},
                                                    settings, kUniforms, "normal"));
  constexpr int kQwen = 151936;
  for (const Settings& settings :
       {Settings{.temperature = 0.8, .top_p = 0.95}, Settings{.temperature = 2, .top_k = 3000}})
    ASSERT_NO_FATAL_FAILURE(
        expect_matches_oracle(normal(2, kQwen, 6, 3.0f), {}, settings, {0.3, 0.9}, "a usual vocabulary"));
}

TEST_P(SampleTest, AmongEqualsTheLowerIdStandsFirst) {
  for (const int V : kSizes) {
    TestMatrix equal(1, V), steps(1, V), signs(1, V);
    for (int v = 0; v < V; ++v) {
      steps.at(0, v) = static_cast<float>(v * 7 % 4);
      signs.at(0, v) = v % 2 == 0 ? -0.0f : 0.0f;
    }
    for (const Settings& settings : kAllSettings) {
      ASSERT_NO_FATAL_FAILURE(expect_matches_oracle(equal, {}, settings, {0.3, kMaxUniform}, "all equal"));
      ASSERT_NO_FATAL_FAILURE(expect_matches_oracle(steps, {}, settings, {0.7}, "four values"));
      ASSERT_NO_FATAL_FAILURE(expect_matches_oracle(signs, {}, settings, {0.6}, "zeros of both signs"));
    }
    // Of equal weights the sums are whole numbers, so there is one answer: half of the first half, rounded.
    const int half = (V + 1) / 2;
    const Matrix<const float> row = equal.view();
    EXPECT_EQ(draw(row, {}, {.top_p = 0.5}, {0.5}).front(), half / 2) << V;
    EXPECT_EQ(draw(row, {}, {.top_k = half}, {kMaxUniform}).front(), half - 1) << V;
    EXPECT_EQ(draw(row, {}, {.temperature = 0}, {0}).front(), 0) << V;
  }
}

TEST_P(SampleTest, WeightsThatAreEqualInF64AreEqualThoughTheirLogitsAreNot) {
  TestMatrix logits(1, 5);
  const float values[] = {0.0f, 1e-20f, -1e-20f, 1e-20f, -1.0f};
  std::copy(std::begin(values), std::end(values), logits.row(0));
  ASSERT_NO_FATAL_FAILURE(expect_matches_oracle(logits, {}, {.top_k = 3}, {0.1, 0.5, 0.9}, "close"));
  EXPECT_EQ(draw(logits.view(), {}, {.top_k = 3}, {0.1}).front(), 0);
  EXPECT_EQ(draw(logits.view(), {}, {.temperature = 0}, {0}).front(), 1) << "the likeliest has the largest logit";
}

TEST_P(SampleTest, AMaskForbidsForAllRowsOrForEach) {
  for (const int V : kSizes) {
    const TestMatrix logits = normal(3, V, 2, 3.0f);
    std::vector<std::uint8_t> every_third(static_cast<std::size_t>(V), 0);
    for (std::size_t v = 0; v < every_third.size(); v += 3) every_third[v] = 200;
    for (const Settings& settings : kAllSettings)
      ASSERT_NO_FATAL_FAILURE(
          expect_matches_oracle(logits, every_third, settings, {0.0, 0.7, kMaxUniform}, "every third"));

    std::vector<std::uint8_t> row_masks(static_cast<std::size_t>(3 * V), 0);
    const int allowed_ids[] = {V - 1, V / 2, 0};
    for (int b = 0; b < 3; ++b) row_masks[static_cast<std::size_t>(b * V + allowed_ids[b])] = 1;
    for (const Settings& settings : kAllSettings)
      EXPECT_EQ(draw(logits.view(), {row_masks.data(), 3, V, V}, settings, {0.0, 0.7, kMaxUniform}),
                (std::vector<int>{V - 1, V / 2, 0}));
    row_masks[static_cast<std::size_t>(V + allowed_ids[1])] = 0;
    EXPECT_EQ(draw(logits.view(), {row_masks.data(), 3, V, V}, {}, {0.0, 0.7, 0.9}), (std::vector<int>{V - 1, V, 0}))
        << "a row without an allowed token has none, beside others";
  }
}

TEST_P(SampleTest, MinusInfinityIsNeverDrawnUnlessThereIsNothingElse) {
  for (const int V : kSizes) {
    TestMatrix logits = normal(1, V, 3), all_masked(1, V);
    for (int v = 0; v < V; ++v) {
      if (v != V / 2 && v % 5 != 1) logits.at(0, v) = -kInfinity;
      all_masked.at(0, v) = -kInfinity;
    }
    for (const Settings& settings : kAllSettings) {
      for (const int id : draw({logits.row(0), 3, V, 0}, {}, settings, {0.0, 0.5, kMaxUniform}))
        EXPECT_TRUE(id == V / 2 || id % 5 == 1) << "V=" << V << " token " << id;
      EXPECT_EQ(draw(all_masked.view(), {}, settings, {0.9}).front(), 0) << "V=" << V;
    }
  }
}

TEST_P(SampleTest, TheFirstLogitThatIsNoNumberIsToldWhateverTheMask) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const int V : kSizes)
    for (const Settings& settings : {Settings{.temperature = 0}, Settings{.temperature = 1, .top_p = 0.9}}) {
      const std::vector<std::uint8_t> all(static_cast<std::size_t>(V), 1), none(static_cast<std::size_t>(V), 0);
      for (const float bad_value : {nan, -nan, kInfinity}) {
        TestMatrix logits = normal(2, V, 4);
        logits.at(1, V - 1) = kInfinity;
        logits.at(1, V / 3) = bad_value;
        const std::vector<int> ids_unmasked = draw(logits.view(), {all.data(), 1, V, V}, settings, {0.5, 0.5});
        EXPECT_GE(ids_unmasked[0], 0) << "of another row";
        EXPECT_EQ(ids_unmasked[1], -1 - V / 3) << "V=" << V << " " << bad_value;
        EXPECT_EQ(draw(logits.view(), {none.data(), 1, V, V}, settings, {0.5, 0.5}), (std::vector<int>{V, -1 - V / 3}));
      }
    }
}

/// Uniform numbers that lie evenly: every token comes as often as its share says, to the rounding of two ends.
TEST_P(SampleTest, TokensComeAsOftenAsTheirSharesSay) {
  constexpr int kDraws = 120, kTokens = 37;
  const TestMatrix logits = normal(1, kTokens, 5, 1.5f);
  std::vector<double> even_uniforms;
  for (int i = 0; i < kDraws; ++i) even_uniforms.push_back((i + 0.5) / kDraws);
  for (const Settings& settings :
       {Settings{.temperature = 0.7}, Settings{.temperature = 1.3, .top_k = 12, .top_p = 0.9}}) {
    std::map<int, int> counts;
    for (const int id : draw({logits.row(0), kDraws, kTokens, 0}, {}, settings, even_uniforms)) ++counts[id];
    constexpr int kOracleDraws = 100000;
    std::map<int, int> shares;
    for (int i = 0; i < kOracleDraws; ++i)
      ++shares[oracle({logits.row(0), kTokens}, {}, settings, (i + 0.5) / kOracleDraws)];
    for (int v = 0; v < kTokens; ++v)
      EXPECT_NEAR(counts[v], shares[v] * (double{kDraws} / kOracleDraws), 1.01)
          << "token " << v << " top_k " << settings.top_k;
  }
}

TEST_P(SampleTest, WhatCannotBeIsRefused) {
  const TestMatrix logits(2, 4);
  const std::uint8_t mask[8] = {};
  int ids[2];
  const auto expect_refused = [&](const Sample& op) { EXPECT_THROW(backend().sample(stream, op), Error); };
  expect_refused({.logits_BV = {logits.row(0), 2, 0, 4}, .temperature = 0, .id_B = ids});
  expect_refused({.logits_BV = logits.view(), .allowed_BV = {mask, 1, 3, 3}, .temperature = 0, .id_B = ids});
  expect_refused({.logits_BV = logits.view(), .temperature = 1, .id_B = ids});
  expect_refused({.logits_BV = logits.view(), .temperature = 0, .top_p = 0, .id_B = ids});
  backend().sample(stream, {.logits_BV = {logits.row(0), 0, 4, 4}, .temperature = 1});  // no rows, nothing to do
}

INSTANTIATE_TEST_SUITE_P(Backends, SampleTest, every_backend(), backend_name);

}  // namespace
}  // namespace slipway
