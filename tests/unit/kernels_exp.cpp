// The polynomial exp over its whole range.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/body/exp.hpp"

namespace slipway {
namespace {

constexpr double kRelativeError = 0x1p-23;  // the bound stated in kernels/body/exp.hpp

TEST(Exp, IsWithinItsBoundOverItsRange) {
  constexpr int kSteps = 2'000'003;
  double max_error = 0, max_error_x = 0;
  for (int i = 0; i < kSteps; ++i) {
    const float x = -86.9f + 175.6f * static_cast<float>(i) / static_cast<float>(kSteps);
    const double expected = std::exp(static_cast<double>(x)),
                 error = std::abs(static_cast<double>(body::exp(x)) - expected) / expected;
    if (error > max_error) max_error = error, max_error_x = static_cast<double>(x);
  }
  RecordProperty("worst_relative_error", std::to_string(max_error));
  EXPECT_LE(max_error, kRelativeError) << "at " << max_error_x;
}

TEST(Exp, IsWithinItsBoundNearZero) {
  for (float x = 1.0f; x > 1e-30f; x *= 0.7f)
    for (const float signed_x : {x, -x})
      ASSERT_NEAR(body::exp(signed_x), std::exp(static_cast<double>(signed_x)),
                  kRelativeError * std::exp(static_cast<double>(signed_x)))
          << signed_x;
}

TEST(Exp, HasTheRightEdges) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(body::exp(0.0f), 1.0f);
  EXPECT_EQ(body::exp(-0.0f), 1.0f);
  EXPECT_EQ(body::exp(-kInfinity), 0.0f);
  EXPECT_EQ(body::exp(-std::numeric_limits<float>::max()), 0.0f);
  EXPECT_EQ(body::exp(-87.0f), 0.0f);
  EXPECT_EQ(body::exp(kInfinity), kInfinity);
  EXPECT_EQ(body::exp(std::numeric_limits<float>::max()), kInfinity);
  EXPECT_EQ(body::exp(89.0f), kInfinity);
  EXPECT_TRUE(std::isfinite(body::exp(88.7228f)));
  EXPECT_TRUE(std::isnan(body::exp(std::numeric_limits<float>::quiet_NaN())));
}

TEST(Exp, GivesTheSameBitsInAVectorAsAlone) {
  std::vector<float> x, y(4099);
  for (int i = 0; i < 4099; ++i) x.push_back(-90.0f + 0.044f * static_cast<float>(i));
#pragma omp simd
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = body::exp(x[i]);
  for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(y[i], body::exp(x[i])) << x[i];
}

TEST(Sigmoid, ReachesItsLimits) {
  EXPECT_EQ(body::sigmoid(0.0f), 0.5f);
  EXPECT_EQ(body::sigmoid(200.0f), 1.0f);
  EXPECT_EQ(body::sigmoid(-200.0f), 0.0f);
  EXPECT_NEAR(body::sigmoid(-3.0f), 0.04742587317756678, 1e-8);
}

}  // namespace
}  // namespace slipway
