// What a step ends with, of every backend, against f64: sums of nats, norms and factors, Muon; and what must not move.
#include <cmath>
#include <limits>

#include "tests/support/kernels_grid.hpp"
#include "tests/support/kernels_oracle.hpp"

namespace slipway {
namespace {

using namespace testing_support;
using oracle::Doubles;

constexpr double kTolerance = 2e-6;
const std::vector<int> kSizes = {0, 1, 31, 127, 2048, 8193};

Grid numbers(int size, std::uint64_t seed) { return normal(1, size, seed, 1.0f, 0); }
std::span<float> span_of(Grid& grid) { return {grid.view().data, static_cast<std::size_t>(grid.cols())}; }

class UpdateTest : public KernelTest {};

TEST_P(UpdateTest, MuonMatchesDoublePrecision) {
  const float half = 0.5f;
  for (const int size : kSizes) {
    Grid g = numbers(size, 1), m = numbers(size, 2), w = numbers(size, 3);
    Doubles want_g = g.doubles(), want_m = m.doubles(), want_w = w.doubles();
    std::vector<Bf16> narrow(static_cast<std::size_t>(size));
    backend().muon_momentum(stream, {.g = span_of(g), .m = span_of(m), .momentum = 0.9f, .grad_scale = &half});
    backend().muon_update(stream, {.w = span_of(w),
                                   .direction = span_of(g),
                                   .decay_factor = 0.99f,
                                   .rate = 0.1f,
                                   .grad_scale = &half,
                                   .w_bf16 = narrow});
    for (std::size_t i = 0; i < want_g.size(); ++i) {
      want_m[i] = 0.9 * (want_m[i] + 0.5 * want_g[i]);
      want_g[i] = 0.5 * want_g[i] + want_m[i];
      want_w[i] = 0.99 * want_w[i] - 0.1 * want_g[i];
    }
    ASSERT_NO_FATAL_FAILURE(expect_close(m, want_m, kTolerance, join("m of ", size)));
    ASSERT_NO_FATAL_FAILURE(expect_close(g, want_g, kTolerance, join("g of ", size)));
    ASSERT_NO_FATAL_FAILURE(expect_close(w, want_w, kTolerance, join("w of ", size)));
    for (std::size_t i = 0; i < narrow.size(); ++i) ASSERT_EQ(narrow[i].bits, to_bf16(span_of(w)[i]).bits) << i;
  }
}

TEST_P(UpdateTest, AFactorOfNaNMovesNothing) {
  constexpr int kSize = 300;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Grid before = numbers(kSize, 1);
  Grid w = before, m = before, v = before, g = before;
  backend().adamw(stream,
                  {.w = span_of(w), .g = span_of(g), .m = span_of(m), .v = span_of(v), .lr = 0.1f, .grad_scale = &nan});
  backend().muon_momentum(stream, {.g = span_of(g), .m = span_of(m), .grad_scale = &nan});
  backend().muon_update(
      stream, {.w = span_of(w), .direction = span_of(g), .decay_factor = 0.5f, .rate = 1, .grad_scale = &nan});
  for (const Grid* grid : {&w, &m, &v, &g}) expect_same_bits(*grid, before, "numbers");
}

/// The factor of one step.
struct Step {
  Doubles nats = {1.0, 2.0}, squares = {9.0, 0.0, 0.0, 16.0};  // two slots of one rank: a norm of 5
  int tensor_ranks = 1, data_ranks = 1, slots = 2;
  double max_norm = 0, norm = -1;
  float running = 1, applied = -1;

  float take(const Backend& backend, Stream& stream) {
    backend.clip_scale(stream, {.nats = nats,
                                .squares = squares.data(),
                                .tensor_ranks = tensor_ranks,
                                .data_ranks = data_ranks,
                                .slots = slots,
                                .max_norm = max_norm,
                                .norm = &norm,
                                .factor = &running,
                                .applied = &applied});
    EXPECT_TRUE(running == applied || (std::isnan(running) && std::isnan(applied)));
    return running;
  }
};

TEST_P(UpdateTest, TheFactorClipsAndStopsForGood) {
  Step step;
  EXPECT_EQ(step.take(backend(), stream), 1.0f);
  EXPECT_EQ(step.norm, 5.0);
  step.max_norm = 2;
  EXPECT_EQ(step.take(backend(), stream), 0.4f);
  step.max_norm = 5;
  EXPECT_EQ(step.take(backend(), stream), 1.0f);
  for (const double bad : {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    Step of_loss, of_norm;
    of_loss.nats[1] = bad;
    EXPECT_TRUE(std::isnan(of_loss.take(backend(), stream)));
    EXPECT_EQ(of_loss.norm, 5.0) << "the norm is told also where the loss is not finite";
    of_norm.squares[2] = bad;
    EXPECT_TRUE(std::isnan(of_norm.take(backend(), stream)));
    of_norm.squares[2] = 0;
    EXPECT_TRUE(std::isnan(of_norm.take(backend(), stream))) << "a later step went on";
    EXPECT_TRUE(std::isnan(of_norm.applied));
  }
}

TEST_P(UpdateTest, TheNormIsTheSameOnAnyNumberOfDataRanksAndCountsSharedNumbersOnce) {
  constexpr int kSlots = 8;
  const Grid found = normal(1, 2 * kSlots, 1, 1.0f, 0);
  double first = 0;
  for (const int data : {1, 2, 4, 8})
    for (const int tensor : {1, 2}) {
      Step step{.tensor_ranks = tensor, .data_ranks = data, .slots = kSlots};
      step.squares.assign(static_cast<std::size_t>(tensor * data * 2 * kSlots), 0.0);
      double shared = 0, apart = 0;
      for (int t = 0; t < tensor; ++t)
        for (int slot = 0; slot < kSlots; ++slot) {
          const int owner = slot * data / kSlots;
          double* place = &step.squares[static_cast<std::size_t>(((t * data + owner) * kSlots + slot) * 2)];
          place[0] = std::abs(found.row(0)[2 * slot]), place[1] = std::abs(found.row(0)[2 * slot + 1]);
          if (t == 0) shared += place[0];
          apart += place[1];
        }
      step.take(backend(), stream);
      EXPECT_NEAR(step.norm, std::sqrt(shared + apart), 1e-14);
      if (tensor > 1) continue;
      if (data == 1) first = step.norm;
      EXPECT_EQ(step.norm, first) << data << " data ranks";
    }
}

TEST_P(UpdateTest, NormalizeGivesALengthOfOneOrLeavesWhatIsTooSmall) {
  for (const int size : {1, 31, 4096, 9001}) {
    Grid x = numbers(size, 1);
    Doubles want = x.doubles();
    double squares = 0;
    for (const double value : want) squares += value * value;
    for (double& value : want) value /= std::sqrt(squares);
    backend().normalize(stream, {span_of(x), 1e-60});
    ASSERT_NO_FATAL_FAILURE(expect_close(x, want, kTolerance, join("of ", size)));
    const Grid before = x;
    backend().normalize(stream, {span_of(x), 2.0});
    ASSERT_NO_FATAL_FAILURE(expect_same_bits(x, before, "below the least"));
  }
}

TEST_P(UpdateTest, WeightedSumIsExactToF64) {
  for (const int size : {0, 1, 33, 5000}) {
    const Grid x = numbers(size, 1), weight = numbers(size, 2);
    double sum = -1, want = 0, sizes = 0;
    backend().weighted_sum(stream, {x.view().data, weight.view().data, size, &sum});
    for (int i = 0; i < size; ++i) {
      const double product = static_cast<double>(x.row(0)[i]) * static_cast<double>(weight.row(0)[i]);
      want += product, sizes += std::abs(product);
    }
    EXPECT_NEAR(sum, want, 1e-13 * sizes) << size;
  }
}

/// What `run` leaves with a narrow copy is what it leaves without one, and the copy is that rounded.
template <class Grad, class Run>
void expect_narrow_copy(int D, bool accumulate, const Run& run) {
  const int R = 5;
  const Grid x = normal(R, D, 1), gain = normal(1, D, 2), dy = normal(R, D, 3), start = normal(R, D, 4);
  Grid want = start, dx = start, dgain(1, D), dgain_again(1, D);
  std::vector<Bf16> copy(static_cast<std::size_t>(R * D));
  Grad op{.x_RD = x.view(),
          .gain_D = gain.row(0),
          .dy_RD = dy.view(),
          .dx_RD = want.view(),
          .dgain_D = dgain.row(0),
          .accumulate_dx = accumulate};
  run(op);
  op.dx_RD = dx.view(), op.dgain_D = dgain_again.row(0);
  op.dx_bf16_RD = {copy.data(), R, D, D};
  run(op);
  ASSERT_NO_FATAL_FAILURE(expect_same_bits(dx, want, "dx beside a copy"));
  ASSERT_NO_FATAL_FAILURE(expect_same_bits(dgain_again, dgain, "dgain beside a copy"));
  for (int r = 0; r < R; ++r)
    for (int d = 0; d < D; ++d)
      ASSERT_EQ(copy[static_cast<std::size_t>(r * D + d)].bits, to_bf16(dx.at(r, d)).bits) << r << ", " << d;
}

TEST_P(UpdateTest, ANormsGradientLeavesItsNarrowCopy) {
  for (const int D : {33, 64, 1104})
    for (const bool accumulate : {false, true}) {
      expect_narrow_copy<RmsNormGrad>(D, accumulate,
                                      [&](const RmsNormGrad& op) { backend().rms_norm_grad(stream, op); });
      expect_narrow_copy<LayerNormGrad>(D, accumulate,
                                        [&](const LayerNormGrad& op) { backend().layer_norm_grad(stream, op); });
    }
}

// A GPU reads rows on 16-byte boundaries in words, and others number by number: the sums are the same.
TEST_P(UpdateTest, SumsDoNotDependOnWhereRowsBegin) {
  for (const int D : {64, 200, 1104}) {
    const int R = 3;
    const Grid aligned = normal(R, D, 1, 1.0f, 8), off = normal(R, D, 1, 1.0f, 5), gain = normal(1, D, 2);
    Grid y(R, D, 8), y_off(R, D, 5);
    backend().rms_norm(stream, {aligned.view(), gain.row(0), y.view()});
    backend().rms_norm(stream, {off.view(), gain.row(0), y_off.view()});
    ASSERT_EQ(y.doubles(), y_off.doubles()) << D;
    backend().layer_norm(stream, {aligned.view(), gain.row(0), nullptr, y.view()});
    backend().layer_norm(stream, {off.view(), gain.row(0), nullptr, y_off.view()});
    ASSERT_EQ(y.doubles(), y_off.doubles()) << D;
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, UpdateTest, every_table(), table_name);

}  // namespace
}  // namespace slipway
