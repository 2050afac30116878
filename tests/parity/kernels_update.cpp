// What a step ends with, of every backend, against f64: sums of losses, norms and factors, Muon; and what must not
// move.
#include <cmath>
#include <limits>

#include "tests/support/kernels_oracle.hpp"
#include "tests/support/test_matrix.hpp"

namespace slipway {
namespace {

using namespace testing_support;
using oracle::F64Vector;

constexpr double kTolerance = 2e-6;
const std::vector<int> kSizes = {0, 1, 31, 127, 2048, 8193};

TestMatrix random_vector(int size, std::uint64_t seed) { return normal(1, size, seed, 1.0f, 0); }
std::span<float> span_of(TestMatrix& matrix) { return {matrix.view().data, static_cast<std::size_t>(matrix.cols())}; }

class UpdateTest : public KernelTest {};

TEST_P(UpdateTest, MuonMatchesDoublePrecision) {
  const float half = 0.5f;
  for (const int size : kSizes) {
    TestMatrix g = random_vector(size, 1), m = random_vector(size, 2), w = random_vector(size, 3);
    F64Vector expected_g = g.to_f64(), expected_m = m.to_f64(), expected_w = w.to_f64();
    std::vector<Bf16> rounded_w(static_cast<std::size_t>(size));
    backend().muon_momentum(stream, {.g = span_of(g), .m = span_of(m), .momentum = 0.9f, .grad_scale = &half});
    backend().muon_update(stream, {.w = span_of(w),
                                   .direction = span_of(g),
                                   .decay_factor = 0.99f,
                                   .rate = 0.1f,
                                   .grad_scale = &half,
                                   .w_bf16 = rounded_w});
    for (std::size_t i = 0; i < expected_g.size(); ++i) {
      expected_m[i] = 0.9 * (expected_m[i] + 0.5 * expected_g[i]);
      expected_g[i] = 0.5 * expected_g[i] + expected_m[i];
      expected_w[i] = 0.99 * expected_w[i] - 0.1 * expected_g[i];
    }
    ASSERT_NO_FATAL_FAILURE(expect_close(m, expected_m, kTolerance, join("m of ", size)));
    ASSERT_NO_FATAL_FAILURE(expect_close(g, expected_g, kTolerance, join("g of ", size)));
    ASSERT_NO_FATAL_FAILURE(expect_close(w, expected_w, kTolerance, join("w of ", size)));
    for (std::size_t i = 0; i < rounded_w.size(); ++i) ASSERT_EQ(rounded_w[i].bits, to_bf16(span_of(w)[i]).bits) << i;
  }
}

TEST_P(UpdateTest, AFactorOfNaNMovesNothing) {
  constexpr int kSize = 300;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const TestMatrix before = random_vector(kSize, 1);
  TestMatrix w = before, m = before, v = before, g = before;
  backend().adamw(stream,
                  {.w = span_of(w), .g = span_of(g), .m = span_of(m), .v = span_of(v), .lr = 0.1f, .grad_scale = &nan});
  backend().muon_momentum(stream, {.g = span_of(g), .m = span_of(m), .grad_scale = &nan});
  backend().muon_update(
      stream, {.w = span_of(w), .direction = span_of(g), .decay_factor = 0.5f, .rate = 1, .grad_scale = &nan});
  for (const TestMatrix* matrix : {&w, &m, &v, &g}) expect_same_bits(*matrix, before, "numbers");
}

/// The factor of one step.
struct Step {
  F64Vector losses = {1.0, 2.0}, squares = {9.0, 0.0, 0.0, 16.0};  // two slots of one rank: a norm of 5
  int tensor_parallel_size = 1, data_parallel_size = 1, slots = 2;
  double max_norm = 0, norm = -1;
  float sticky_factor = 1, reported_factor = -1;

  float compute(const Backend& backend, Stream& stream) {
    backend.clip_coef(stream, {.losses = losses,
                               .squares = squares.data(),
                               .tensor_parallel_size = tensor_parallel_size,
                               .data_parallel_size = data_parallel_size,
                               .slots = slots,
                               .max_norm = max_norm,
                               .norm = &norm,
                               .factor = &sticky_factor,
                               .reported_factor = &reported_factor});
    EXPECT_TRUE(sticky_factor == reported_factor || (std::isnan(sticky_factor) && std::isnan(reported_factor)));
    return sticky_factor;
  }
};

TEST_P(UpdateTest, TheFactorClipsAndStopsForGood) {
  Step step;
  EXPECT_EQ(step.compute(backend(), stream), 1.0f);
  EXPECT_EQ(step.norm, 5.0);
  step.max_norm = 2;
  EXPECT_EQ(step.compute(backend(), stream), 0.4f);
  step.max_norm = 5;
  EXPECT_EQ(step.compute(backend(), stream), 1.0f);
  for (const double bad_value : {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    Step bad_loss, bad_norm;
    bad_loss.losses[1] = bad_value;
    EXPECT_TRUE(std::isnan(bad_loss.compute(backend(), stream)));
    EXPECT_EQ(bad_loss.norm, 5.0) << "the norm is told also where the loss is not finite";
    bad_norm.squares[2] = bad_value;
    EXPECT_TRUE(std::isnan(bad_norm.compute(backend(), stream)));
    bad_norm.squares[2] = 0;
    EXPECT_TRUE(std::isnan(bad_norm.compute(backend(), stream))) << "a later step went on";
    EXPECT_TRUE(std::isnan(bad_norm.reported_factor));
  }
}

TEST_P(UpdateTest, TheNormIsTheSameOnAnyNumberOfDataRanksAndCountsSharedNumbersOnce) {
  constexpr int kSlots = 8;
  const TestMatrix chunk_values = normal(1, 2 * kSlots, 1, 1.0f, 0);
  double first = 0;
  for (const int data : {1, 2, 4, 8})
    for (const int tensor : {1, 2}) {
      Step step{.tensor_parallel_size = tensor, .data_parallel_size = data, .slots = kSlots};
      step.squares.assign(static_cast<std::size_t>(tensor * data * 2 * kSlots), 0.0);
      double replicated_squares = 0, sharded_squares = 0;
      for (int t = 0; t < tensor; ++t)
        for (int slot = 0; slot < kSlots; ++slot) {
          const int owner = slot * data / kSlots;
          double* chunk_squares = &step.squares[static_cast<std::size_t>(((t * data + owner) * kSlots + slot) * 2)];
          chunk_squares[0] = std::abs(chunk_values.row(0)[2 * slot]),
          chunk_squares[1] = std::abs(chunk_values.row(0)[2 * slot + 1]);
          if (t == 0) replicated_squares += chunk_squares[0];
          sharded_squares += chunk_squares[1];
        }
      step.compute(backend(), stream);
      EXPECT_NEAR(step.norm, std::sqrt(replicated_squares + sharded_squares), 1e-14);
      if (tensor > 1) continue;
      if (data == 1) first = step.norm;
      EXPECT_EQ(step.norm, first) << data << " data ranks";
    }
}

TEST_P(UpdateTest, NormalizeGivesALengthOfOneOrLeavesWhatIsTooSmall) {
  for (const int size : {1, 31, 4096, 9001}) {
    TestMatrix x = random_vector(size, 1);
    F64Vector expected = x.to_f64();
    double squares = 0;
    for (const double value : expected) squares += value * value;
    for (double& value : expected) value /= std::sqrt(squares);
    backend().normalize(stream, {span_of(x), 1e-60});
    ASSERT_NO_FATAL_FAILURE(expect_close(x, expected, kTolerance, join("of ", size)));
    const TestMatrix before = x;
    backend().normalize(stream, {span_of(x), 2.0});
    ASSERT_NO_FATAL_FAILURE(expect_same_bits(x, before, "below the least"));
  }
}

TEST_P(UpdateTest, WeightedSumIsExactToF64) {
  for (const int size : {0, 1, 33, 5000}) {
    const TestMatrix x = random_vector(size, 1), weight = random_vector(size, 2);
    double sum = -1, expected = 0, abs_sum = 0;
    backend().weighted_sum(stream, {x.view().data, weight.view().data, size, &sum});
    for (int i = 0; i < size; ++i) {
      const double product = static_cast<double>(x.row(0)[i]) * static_cast<double>(weight.row(0)[i]);
      expected += product, abs_sum += std::abs(product);
    }
    EXPECT_NEAR(sum, expected, 1e-13 * abs_sum) << size;
  }
}

/// What `run` leaves with a narrow copy is what it leaves without one, and the copy is that rounded.
template <class Grad, class Run>
void expect_bf16_copy(int D, bool accumulate, const Run& run) {
  const int R = 5;
  const TestMatrix x = normal(R, D, 1), gain = normal(1, D, 2), dy = normal(R, D, 3), initial = normal(R, D, 4);
  TestMatrix expected = initial, dx = initial, dgain(1, D), second_dgain(1, D);
  std::vector<Bf16> copy(static_cast<std::size_t>(R * D));
  Grad op{.x_RD = x.view(),
          .gain_D = gain.row(0),
          .dy_RD = dy.view(),
          .dx_RD = expected.view(),
          .dgain_D = dgain.row(0),
          .accumulate_dx = accumulate};
  run(op);
  op.dx_RD = dx.view(), op.dgain_D = second_dgain.row(0);
  op.dx_bf16_RD = {copy.data(), R, D, D};
  run(op);
  ASSERT_NO_FATAL_FAILURE(expect_same_bits(dx, expected, "dx beside a copy"));
  ASSERT_NO_FATAL_FAILURE(expect_same_bits(second_dgain, dgain, "dgain beside a copy"));
  for (int r = 0; r < R; ++r)
    for (int d = 0; d < D; ++d)
      ASSERT_EQ(copy[static_cast<std::size_t>(r * D + d)].bits, to_bf16(dx.at(r, d)).bits) << r << ", " << d;
}

TEST_P(UpdateTest, ANormsGradientLeavesItsNarrowCopy) {
  for (const int D : {33, 64, 1104})
    for (const bool accumulate : {false, true}) {
      expect_bf16_copy<RmsNormGrad>(D, accumulate, [&](const RmsNormGrad& op) { backend().rms_norm_grad(stream, op); });
      expect_bf16_copy<LayerNormGrad>(D, accumulate,
                                      [&](const LayerNormGrad& op) { backend().layer_norm_grad(stream, op); });
    }
}

// A GPU reads rows on 16-byte boundaries in words, and others number by number: the sums are the same.
TEST_P(UpdateTest, SumsDoNotDependOnWhereRowsBegin) {
  for (const int D : {64, 200, 1104}) {
    const int R = 3;
    const TestMatrix aligned = normal(R, D, 1, 1.0f, 8), unaligned = normal(R, D, 1, 1.0f, 5), gain = normal(1, D, 2);
    TestMatrix y(R, D, 8), unaligned_y(R, D, 5);
    backend().rms_norm(stream, {aligned.view(), gain.row(0), y.view()});
    backend().rms_norm(stream, {unaligned.view(), gain.row(0), unaligned_y.view()});
    ASSERT_EQ(y.to_f64(), unaligned_y.to_f64()) << D;
    backend().layer_norm(stream, {aligned.view(), gain.row(0), nullptr, y.view()});
    backend().layer_norm(stream, {unaligned.view(), gain.row(0), nullptr, unaligned_y.view()});
    ASSERT_EQ(y.to_f64(), unaligned_y.to_f64()) << D;
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, UpdateTest, every_backend(), backend_name);

}  // namespace
}  // namespace slipway
