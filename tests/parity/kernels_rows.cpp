// Every op over rows and ranges, of every backend, against f64 loops.
#include "tests/support/kernels_oracle.hpp"
#include "tests/support/test_matrix.hpp"

namespace slipway {
namespace {

using namespace testing_support;
using oracle::F64Vector;

const std::vector<int> kColumns = {1, 31, 33, 64, 127, 264, 1104};  // 1104: a block of a GPU for each row
const std::vector<int> kRowCounts = {0, 1, 5, 67, 130};             // 67 and 130: past one and two blocks of 64 rows

// A handful of f32 roundings (2^-24 = 6e-8 each) of values near 1, and sums of up to 127 of them in eight lanes.
constexpr double kTolerance = 2e-6;
// Sums over up to 130 values near 1, one after another: partial sums near 11 are rounded 130 times.
constexpr double kRowSumTolerance = 2e-5;

std::string shape_text(const char* what, int rows, int cols) { return join(what, " [", rows, ", ", cols, "]"); }

class RowsTest : public KernelTest {};

TEST_P(RowsTest, RmsNormMatchesDoublePrecision) {
  for (const int R : kRowCounts)
    for (const int D : kColumns) {
      const TestMatrix x = normal(R, D, 1), gain = normal(1, D, 2);
      TestMatrix y(R, D);
      backend().rms_norm(stream, {.x_RD = x.view(), .gain_D = gain.row(0), .y_RD = y.view(), .eps = 1e-5f});
      const F64Vector expected = oracle::rms_norm(x.to_f64(), gain.to_f64(), R, D, 1e-5);
      ASSERT_NO_FATAL_FAILURE(expect_close(y, expected, kTolerance, shape_text("y", R, D)));

      TestMatrix in_place = x;
      backend().rms_norm(stream,
                         {.x_RD = in_place.view(), .gain_D = gain.row(0), .y_RD = in_place.view(), .eps = 1e-5f});
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(in_place, y, "y in place of x"));
    }
}

TEST_P(RowsTest, RmsNormGradMatchesDoublePrecision) {
  for (const int R : kRowCounts)
    for (const int D : kColumns) {
      const TestMatrix x = normal(R, D, 1), gain = normal(1, D, 2), dy = normal(R, D, 3), initial = normal(R, D, 4);
      TestMatrix dx(R, D), dgain = normal(1, D, 5);
      F64Vector expected_dx, expected_dgain = dgain.to_f64();
      oracle::rms_norm_grad(x.to_f64(), gain.to_f64(), dy.to_f64(), R, D, 1e-5, expected_dx, expected_dgain);

      RmsNormGrad op{.x_RD = x.view(),
                     .gain_D = gain.row(0),
                     .dy_RD = dy.view(),
                     .dx_RD = dx.view(),
                     .dgain_D = dgain.row(0),
                     .eps = 1e-5f};
      backend().rms_norm_grad(stream, op);
      ASSERT_NO_FATAL_FAILURE(expect_close(dx, expected_dx, 4 * kTolerance, shape_text("dx", R, D)));
      ASSERT_NO_FATAL_FAILURE(expect_close(dgain, expected_dgain, kRowSumTolerance, shape_text("dgain", R, D)));

      TestMatrix accumulated = initial;
      op.dx_RD = accumulated.view();
      op.accumulate_dx = true;
      backend().rms_norm_grad(stream, op);
      F64Vector expected_accumulated = initial.to_f64();
      for (std::size_t i = 0; i < expected_accumulated.size(); ++i) expected_accumulated[i] += expected_dx[i];
      ASSERT_NO_FATAL_FAILURE(
          expect_close(accumulated, expected_accumulated, 4 * kTolerance, shape_text("dx added", R, D)));

      TestMatrix in_place = dy;
      op.dy_RD = in_place.view();
      op.dx_RD = in_place.view();
      op.accumulate_dx = false;
      backend().rms_norm_grad(stream, op);
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(in_place, dx, "dx in place of dy"));
    }
}

TEST_P(RowsTest, LayerNormMatchesDoublePrecision) {
  for (const int R : kRowCounts)
    for (const int D : kColumns)
      for (const bool with_bias : {false, true}) {
        const TestMatrix x = normal(R, D, 1), gain = normal(1, D, 2), bias = normal(1, D, 3);
        TestMatrix y(R, D), in_place = x;
        LayerNorm op{.x_RD = x.view(), .gain_D = gain.row(0), .y_RD = y.view(), .eps = 1e-3f};
        if (with_bias) op.bias_D = bias.row(0);
        backend().layer_norm(stream, op);
        const F64Vector expected =
            oracle::layer_norm(x.to_f64(), gain.to_f64(), with_bias ? bias.to_f64() : F64Vector{}, R, D, 1e-3);
        ASSERT_NO_FATAL_FAILURE(expect_close(y, expected, kTolerance, shape_text("y", R, D)));

        op.x_RD = in_place.view(), op.y_RD = in_place.view();
        backend().layer_norm(stream, op);
        ASSERT_NO_FATAL_FAILURE(expect_same_bits(in_place, y, "y in place of x"));
      }
}

// Sums of squares from which the square of the mean is taken at the end would have an error of 1000^2 * 2^-24 = 0.06.
TEST_P(RowsTest, LayerNormKeepsItsDigitsFarFromZero) {
  constexpr double kFarTolerance = 1e-3;  // the mean of values near 1000 is off by some of its roundings, 6e-5 each
  for (const int D : kColumns) {
    TestMatrix x = normal(3, D, 1);
    const TestMatrix gain = normal(1, D, 2), bias = normal(1, D, 3);
    for (int r = 0; r < 3; ++r)
      for (int d = 0; d < D; ++d) x.at(r, d) += 1000.0f;
    TestMatrix y(3, D);
    backend().layer_norm(stream, {x.view(), gain.row(0), bias.row(0), y.view(), 1e-2f});
    const F64Vector expected = oracle::layer_norm(x.to_f64(), gain.to_f64(), bias.to_f64(), 3, D, 1e-2);
    ASSERT_NO_FATAL_FAILURE(expect_close(y, expected, kFarTolerance, shape_text("y", 3, D)));
  }
}

TEST_P(RowsTest, LayerNormGradMatchesDoublePrecision) {
  for (const int R : kRowCounts)
    for (const int D : kColumns) {
      const TestMatrix x = normal(R, D, 1), gain = normal(1, D, 2), dy = normal(R, D, 3), initial = normal(R, D, 4);
      TestMatrix dx(R, D), dgain = normal(1, D, 5), dbias = normal(1, D, 6), dgain_without_dbias = dgain;
      F64Vector expected_dx, expected_dgain = dgain.to_f64(), expected_dbias = dbias.to_f64();
      oracle::layer_norm_grad(x.to_f64(), gain.to_f64(), dy.to_f64(), R, D, 1e-3, expected_dx, expected_dgain,
                              expected_dbias);

      LayerNormGrad op{.x_RD = x.view(),
                       .gain_D = gain.row(0),
                       .dy_RD = dy.view(),
                       .dx_RD = dx.view(),
                       .dgain_D = dgain.row(0),
                       .dbias_D = dbias.row(0),
                       .eps = 1e-3f};
      backend().layer_norm_grad(stream, op);
      ASSERT_NO_FATAL_FAILURE(expect_close(dx, expected_dx, 4 * kTolerance, shape_text("dx", R, D)));
      ASSERT_NO_FATAL_FAILURE(expect_close(dgain, expected_dgain, kRowSumTolerance, shape_text("dgain", R, D)));
      ASSERT_NO_FATAL_FAILURE(expect_close(dbias, expected_dbias, kRowSumTolerance, shape_text("dbias", R, D)));

      TestMatrix accumulated = initial;
      op.dx_RD = accumulated.view(), op.dgain_D = dgain_without_dbias.row(0), op.dbias_D = nullptr;
      op.accumulate_dx = true;
      backend().layer_norm_grad(stream, op);
      F64Vector expected_accumulated = initial.to_f64();
      for (std::size_t i = 0; i < expected_accumulated.size(); ++i) expected_accumulated[i] += expected_dx[i];
      ASSERT_NO_FATAL_FAILURE(
          expect_close(accumulated, expected_accumulated, 4 * kTolerance, shape_text("dx added", R, D)));
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(dgain_without_dbias, dgain, "dgain without dbias"));

      TestMatrix in_place = dy;
      op.dy_RD = in_place.view(), op.dx_RD = in_place.view();
      op.accumulate_dx = false;
      backend().layer_norm_grad(stream, op);
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(in_place, dx, "dx in place of dy"));
    }
}

TEST_P(RowsTest, RopeMatchesDoublePrecisionAndTurnsBack) {
  constexpr int kPositions = 2048;
  for (const int K : {2, 6, 32, 62, 64})
    for (const int heads : {1, 3}) {
      const int N = 19;
      TestMatrix cos(kPositions, K / 2), sin(kPositions, K / 2);
      rope_table(cos.view(), sin.view(), K, 10000.0);
      const TestMatrix x = normal(N, heads * K, 1);
      const std::vector<int> position = integers(N, 0, kPositions, 2);

      TestMatrix rotated = x;
      Rope op{.x_NHK = rotated.view(),
              .position_N = position.data(),
              .cos_PJ = cos.view(),
              .sin_PJ = sin.view(),
              .head_width = K};
      backend().rope(stream, op);
      ASSERT_NO_FATAL_FAILURE(expect_close(rotated, oracle::rope(x.to_f64(), position, N, heads, K, 10000.0, false),
                                           kTolerance, shape_text("turned", N, heads * K)));
      op.inverse = true;
      backend().rope(stream, op);
      ASSERT_NO_FATAL_FAILURE(expect_close(rotated, x.to_f64(), kTolerance, "turned back"));
    }
}

TEST_P(RowsTest, SwigluAndItsGradientMatchDoublePrecision) {
  for (const int R : kRowCounts)
    for (const int F : kColumns) {
      const TestMatrix gate = normal(R, F, 1, 20.0f), up = normal(R, F, 2), dy = normal(R, F, 3);
      TestMatrix y(R, F), dgate(R, F), dup(R, F);
      backend().swiglu(stream, {.gate_RF = gate.view(), .up_RF = up.view(), .y_RF = y.view()});
      ASSERT_NO_FATAL_FAILURE(
          expect_close(y, oracle::swiglu(gate.to_f64(), up.to_f64()), kTolerance, shape_text("y", R, F)));

      // silu' holds 1 + z (1 - s): with z to 80 the factor 1 - s near 2^-24 keeps an error near 80 * 6e-8.
      constexpr double kGateTolerance = 1e-5;
      F64Vector expected_dgate, expected_dup;
      oracle::swiglu_grad(gate.to_f64(), up.to_f64(), dy.to_f64(), expected_dgate, expected_dup);
      backend().swiglu_grad(stream, {gate.view(), up.view(), dy.view(), dgate.view(), dup.view()});
      ASSERT_NO_FATAL_FAILURE(expect_close(dgate, expected_dgate, kGateTolerance, shape_text("dgate", R, F)));
      ASSERT_NO_FATAL_FAILURE(expect_close(dup, expected_dup, kTolerance, shape_text("dup", R, F)));

      TestMatrix gate_in_place = gate, dy_in_place = dy;
      backend().swiglu_grad(
          stream, {gate_in_place.view(), up.view(), dy_in_place.view(), gate_in_place.view(), dy_in_place.view()});
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(gate_in_place, dgate, "dgate in place of gate"));
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(dy_in_place, dup, "dup in place of dy"));
    }
}

TEST_P(RowsTest, GeluAndItsGradientMatchDoublePrecision) {
  for (const int R : kRowCounts)
    for (const int F : kColumns) {
      const TestMatrix x = normal(R, F, 1, 4.0f), dy = normal(R, F, 2);
      TestMatrix y(R, F), dx(R, F), in_place = x;
      backend().gelu(stream, {.x_RF = x.view(), .y_RF = y.view()});
      ASSERT_NO_FATAL_FAILURE(expect_close(y, oracle::gelu(x.to_f64()), kTolerance, shape_text("y", R, F)));
      backend().gelu(stream, {.x_RF = in_place.view(), .y_RF = in_place.view()});
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(in_place, y, "y in place of x"));

      // x s (1 - s) 2 u' with x to 5, where 1 - s is still above 2^-24 and u' is 3.5: 5 * 7 * 6e-8 times dy to 4.
      constexpr double kGradTolerance = 1e-5;
      backend().gelu_grad(stream, {.x_RF = x.view(), .dy_RF = dy.view(), .dx_RF = dx.view()});
      const F64Vector expected_dx = oracle::gelu_grad(x.to_f64(), dy.to_f64());
      ASSERT_NO_FATAL_FAILURE(expect_close(dx, expected_dx, kGradTolerance, shape_text("dx", R, F)));

      TestMatrix x_in_place = x, dy_in_place = dy;  // each of the two results in place of each of the two inputs
      backend().gelu_grad(stream, {x_in_place.view(), dy_in_place.view(), dy_in_place.view(), x_in_place.view()});
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(dy_in_place, dx, "dx in place of dy"));
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(x_in_place, y, "y recomputed in place of x"));
      x_in_place = x, dy_in_place = dy;
      backend().gelu_grad(stream, {x_in_place.view(), dy_in_place.view(), x_in_place.view(), dy_in_place.view()});
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(x_in_place, dx, "dx in place of x"));
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(dy_in_place, y, "y recomputed in place of dy"));
    }
}

TEST_P(RowsTest, GeluReachesItsLimits) {
  const std::vector<float> inputs = {0.0f, -0.0f, 30.0f, -30.0f, 1e18f, -1e18f};
  const std::vector<float> expected_y = {0.0f, 0.0f, 30.0f, 0.0f, 1e18f, 0.0f},
                           expected_dx = {0.5f, 0.5f, 1.0f, 0.0f, 1.0f, 0.0f};
  for (const int copies : {1, 7}) {
    const int F = copies * static_cast<int>(inputs.size());
    TestMatrix x(1, F), dy(1, F), y(1, F), dx(1, F);
    for (int f = 0; f < F; ++f) x.at(0, f) = inputs[static_cast<std::size_t>(f) % inputs.size()], dy.at(0, f) = 1.0f;
    backend().gelu(stream, {.x_RF = x.view(), .y_RF = y.view()});
    backend().gelu_grad(stream, {.x_RF = x.view(), .dy_RF = dy.view(), .dx_RF = dx.view()});
    for (int f = 0; f < F; ++f) {
      EXPECT_EQ(y.at(0, f), expected_y[static_cast<std::size_t>(f) % inputs.size()]) << x.at(0, f);
      EXPECT_EQ(dx.at(0, f), expected_dx[static_cast<std::size_t>(f) % inputs.size()]) << x.at(0, f);
    }
  }
}

TEST_P(RowsTest, CrossEntropyAndItsGradientMatchDoublePrecision) {
  for (const int R : {0, 1, 5, 67})
    for (const int V : {1, 31, 127, 1000}) {
      const int valid = std::max(1, V - 3);  // the last columns are padding
      const TestMatrix logits = normal(R, V, 1, 5.0f);
      std::vector<int> target = integers(R, 0, valid, 2);
      TestMatrix weight = normal(1, R, 3, 1.0f, 0);
      if (R > 2) weight.at(0, 1) = 0.0f;

      std::vector<SoftmaxPartial> partials(static_cast<std::size_t>(R));
      TestMatrix exps(R, V);
      backend().softmax_partials(stream, {logits.view(), target.data(), valid, partials.data(), exps.view()});
      TestMatrix lse(1, R, 0);
      F64Vector expected_grad;
      const F64Vector values = logits.to_f64();
      for (int r = 0; r < R; ++r) {
        const SoftmaxPartial merged = merge(&partials[static_cast<std::size_t>(r)], 1, 1);
        const int t = target[static_cast<std::size_t>(r)];
        const double expected =
            oracle::log_sum_exp({values.data() + oracle::flat_index(r, V, 0), static_cast<std::size_t>(valid)});
        ASSERT_NEAR(merged.max, expected, kTolerance * std::max(1.0, std::abs(expected)))
            << "row " << r << " of " << V << " columns";
        ASSERT_EQ(merged.target, logits.row(r)[t]);
        lse.at(0, r) = merged.max;
        for (int v = 0; v < V; ++v)
          expected_grad.push_back(v >= valid
                                      ? 0.0
                                      : static_cast<double>(weight.at(0, r)) *
                                            (std::exp(values[oracle::flat_index(r, V, v)] - expected) - (v == t)));
      }
      backend().cross_entropy_grad(stream,
                                   {exps.view(), target.data(), partials.data(), lse.row(0), weight.row(0), valid});
      ASSERT_NO_FATAL_FAILURE(expect_close(exps, expected_grad, 4 * kTolerance, shape_text("dlogits", R, V)));
    }
}

TEST_P(RowsTest, SharesOfASplitVocabularyJoinToTheWhole) {
  const int R = 7, V = 100;
  const TestMatrix logits = normal(R, V, 1, 5.0f);
  const std::vector<int> target = integers(R, 0, V, 2),
                         shard_bounds = {0, 33, 33, 90, 100};  // one rank has no column at all
  std::vector<SoftmaxPartial> unsharded(R), partials(4 * R);
  backend().softmax_partials(stream, {logits.view(), target.data(), V, unsharded.data(), {}});
  for (std::size_t rank = 0; rank < 4; ++rank) {
    const int cols = shard_bounds[rank + 1] - shard_bounds[rank];
    backend().softmax_partials(stream, {.logits_RV = logits.view().view_cols(shard_bounds[rank], cols),
                                        .target_R = target.data(),
                                        .valid_cols = cols,
                                        .partial_R = &partials[rank * R],
                                        .vocab_start = shard_bounds[rank]});
  }
  for (int r = 0; r < R; ++r) {
    const SoftmaxPartial from_shards = merge(&partials[static_cast<std::size_t>(r)], 4, R);
    const SoftmaxPartial expected = merge(&unsharded[static_cast<std::size_t>(r)], 1, 1);
    EXPECT_NEAR(from_shards.max, expected.max, kTolerance * std::abs(expected.max));
    EXPECT_EQ(from_shards.target, expected.target);
  }
}

TEST_P(RowsTest, SharesWithoutAColumnJoinToNothing) {
  const std::vector<SoftmaxPartial> partials = {{-std::numeric_limits<float>::infinity(), 0, 0},
                                                {2, 3, 1.5f},
                                                {0, 1, 0},
                                                {-std::numeric_limits<float>::infinity(), 0, 0}};
  std::vector<SoftmaxPartial> merged(2);
  std::vector<float> lse(2), nats(2);
  const std::vector<float> weight = {1, 0};
  backend().merge_partials(stream, {.partials = partials.data(),
                                    .count = 2,
                                    .stride = 2,
                                    .rows = 2,
                                    .merged_R = merged.data(),
                                    .lse_R = lse.data(),
                                    .weight_R = weight.data(),
                                    .loss_R = nats.data()});
  EXPECT_EQ(merged[0].max, 0.0f);  // of partials 0 and 2: one of them has no column
  EXPECT_EQ(nats[0], 0.0f);
  EXPECT_NEAR(lse[1], 2 + std::log(3.0), kTolerance * 4);
  EXPECT_EQ(merged[1].target, 1.5f);
  EXPECT_EQ(nats[1], 0.0f);  // its weight is 0
  backend().merge_partials(
      stream, {.partials = partials.data(), .count = 2, .stride = 3, .rows = 1, .merged_R = merged.data()});
  EXPECT_EQ(merged[0].sum, 0.0f);
  EXPECT_EQ(merged[0].max, -std::numeric_limits<float>::infinity());
}

TEST_P(RowsTest, RowsOfWeightZeroGiveZeroWhateverTheirNumbers) {
  TestMatrix logits = normal(1, 9, 1);
  const int target = 0;
  const float lse = std::numeric_limits<float>::quiet_NaN(), weight = 0.0f;
  const SoftmaxPartial partial{.max = lse, .sum = lse, .target = lse};
  backend().cross_entropy_grad(stream, {logits.view(), &target, &partial, &lse, &weight, 9});
  expect_close(logits, F64Vector(9, 0.0), 0.0, "dlogits");
}

TEST_P(RowsTest, EmbeddingTakesRowsAndItsGradientGivesThemBack) {
  for (const int N : kRowCounts)
    for (const int D : kColumns) {
      const int V = 11, vocab_start = 5;
      const std::vector<int> id = integers(N, 0, 20, 1);  // some lie before and some behind this rank's rows
      const TestMatrix table = normal(V, D, 2), dy = normal(N, D, 3);
      TestMatrix y(N, D), accumulated = normal(N, D, 5), dtable = normal(V, D, 4);
      F64Vector expected_y, expected_accumulated, expected_dtable = dtable.to_f64();
      for (int n = 0; n < N; ++n)
        for (int d = 0; d < D; ++d) {
          const int row = id[static_cast<std::size_t>(n)] - vocab_start;
          const bool is_local = row >= 0 && row < V;
          expected_y.push_back(is_local ? table.row(row)[d] : 0.0f);
          expected_accumulated.push_back(is_local ? accumulated.row(n)[d] + table.row(row)[d] : accumulated.row(n)[d]);
          if (is_local) expected_dtable[oracle::flat_index(row, D, d)] += static_cast<double>(dy.row(n)[d]);
        }
      backend().embedding(stream, {table.view(), id.data(), vocab_start, y.view()});
      ASSERT_NO_FATAL_FAILURE(expect_close(y, expected_y, 0.0, shape_text("y", N, D)));
      backend().embedding(stream, {table.view(), id.data(), vocab_start, accumulated.view(), true});
      ASSERT_NO_FATAL_FAILURE(expect_close(accumulated, expected_accumulated, 0.0, shape_text("y added to", N, D)));
      backend().embedding_grad(stream, {dy.view(), id.data(), vocab_start, dtable.view()});
      ASSERT_NO_FATAL_FAILURE(expect_close(dtable, expected_dtable, kRowSumTolerance, shape_text("dtable", V, D)));
    }
}

TEST_P(RowsTest, AddScaleAndBiasMatchDoublePrecision) {
  for (const int R : kRowCounts)
    for (const int D : kColumns) {
      const TestMatrix x = normal(R, D, 1, 1.0f, 0), bias = normal(1, D, 2);
      TestMatrix y = normal(R, D, 3, 1.0f, 0), biased = normal(R, D, 4), dbias = normal(1, D, 5);
      const std::size_t size = static_cast<std::size_t>(R) * static_cast<std::size_t>(D);
      F64Vector expected = y.to_f64(), expected_biased = biased.to_f64(), expected_dbias = dbias.to_f64();
      for (int r = 0; r < R; ++r)
        for (int d = 0; d < D; ++d) {
          const std::size_t i = oracle::flat_index(r, D, d);
          expected[i] = 0.75 * (expected[i] + static_cast<double>(x.row(r)[d]));
          expected_dbias[static_cast<std::size_t>(d)] += expected_biased[i];
          expected_biased[i] += static_cast<double>(bias.row(0)[d]);
        }
      TestMatrix out_of_place = normal(R, D, 6, 1.0f, 0);  // the sum beside its numbers, which stay
      const F64Vector before = y.to_f64();
      backend().add(stream,
                    {.x = {x.view().data, size}, .y = {y.view().data, size}, .sum = {out_of_place.view().data, size}});
      ASSERT_NO_FATAL_FAILURE(expect_close(y, before, 0.0, shape_text("residual", R, D)));
      backend().add(stream, {.x = {x.view().data, size}, .y = {y.view().data, size}});
      ASSERT_NO_FATAL_FAILURE(expect_close(out_of_place, y.to_f64(), 0.0, shape_text("sum apart", R, D)));
      backend().scale(stream, {.x = {y.view().data, size}, .factor = 0.75f});
      ASSERT_NO_FATAL_FAILURE(expect_close(y, expected, kTolerance, shape_text("scaled sum", R, D)));
      backend().bias_grad(stream, {.dy_RD = biased.view(), .dbias_D = dbias.row(0)});
      ASSERT_NO_FATAL_FAILURE(expect_close(dbias, expected_dbias, kRowSumTolerance, shape_text("dbias", R, D)));
      backend().add_bias(stream, {.bias_D = bias.row(0), .y_RD = biased.view()});
      ASSERT_NO_FATAL_FAILURE(expect_close(biased, expected_biased, kTolerance, shape_text("biased", R, D)));
    }
}

TEST_P(RowsTest, ToBf16RoundsToTheNearestEven) {
  const std::vector<std::uint32_t> bits = {0x3f800000u, 0x3f808000u, 0x3f808001u, 0x3f818000u, 0x3f817fffu,
                                           0x7f800000u, 0x7f7fffffu, 0x80000000u, 0xff800001u};
  const std::vector<std::uint16_t> expected = {0x3f80u, 0x3f80u, 0x3f81u, 0x3f82u, 0x3f81u,
                                               0x7f80u, 0x7f80u, 0x8000u, 0xffc0u};
  for (const int copies : {1, 7}) {  // seven copies, so that vectors and their remainder both see them
    const int D = copies * static_cast<int>(bits.size());
    std::vector<float> x;
    for (int c = 0; c < copies; ++c)
      for (const std::uint32_t word : bits) x.push_back(std::bit_cast<float>(word));
    std::vector<Bf16> y(x.size());
    backend().to_bf16(stream, {.x_RD = {x.data(), 1, D, D}, .y_RD = {y.data(), 1, D, D}});
    for (std::size_t i = 0; i < y.size(); ++i)
      EXPECT_EQ(y[i].bits, expected[i % expected.size()]) << std::hex << bits[i % expected.size()];
  }
}

TEST_P(RowsTest, AdamWMatchesDoublePrecisionOverSteps) {
  for (const int size : {0, 1, 127, 8193}) {
    TestMatrix w = normal(1, size, 1, 1.0f, 0), m(1, size, 0), v(1, size, 0);
    F64Vector expected_w = w.to_f64(), expected_m = m.to_f64(), expected_v = v.to_f64();
    const auto span = [&](TestMatrix& matrix) {
      return std::span<float>(matrix.view().data, static_cast<std::size_t>(size));
    };
    const float half = 0.5f;
    for (int step = 1; step <= 3; ++step) {
      TestMatrix g = normal(1, size, static_cast<std::uint64_t>(step) + 10, 1.0f, 0);
      const double bias_correction1 = 1 - std::pow(0.9, step), bias_correction2 = 1 - std::pow(0.95, step);
      backend().adamw(stream, {.w = span(w),
                               .g = span(g),
                               .m = span(m),
                               .v = span(v),
                               .lr = 0.01f,
                               .weight_decay = 0.1f,
                               .bias_correction1 = static_cast<float>(bias_correction1),
                               .bias_correction2 = static_cast<float>(bias_correction2),
                               .grad_scale = &half});
      const F64Vector gradients = g.to_f64();
      for (std::size_t i = 0; i < expected_w.size(); ++i) {
        const double grad = 0.5 * gradients[i];
        expected_m[i] = 0.9 * expected_m[i] + 0.1 * grad;
        expected_v[i] = 0.95 * expected_v[i] + 0.05 * grad * grad;
        expected_w[i] -=
            0.01 * (expected_m[i] / bias_correction1 / (std::sqrt(expected_v[i] / bias_correction2) + 1e-8) +
                    0.1 * expected_w[i]);
      }
    }
    ASSERT_NO_FATAL_FAILURE(expect_close(w, expected_w, kTolerance, join("w of ", size)));
    ASSERT_NO_FATAL_FAILURE(expect_close(m, expected_m, kTolerance, join("m of ", size)));
    ASSERT_NO_FATAL_FAILURE(expect_close(v, expected_v, kTolerance, join("v of ", size)));
  }
}

TEST_P(RowsTest, SumSquaresIsExactToF64) {
  for (const int size : {0, 1, 127, 4096, 4097, 100000}) {
    const TestMatrix x = normal(1, size, 3, 100.0f, 0);
    double sum = -1, expected = 0;
    backend().sum_squares(stream, {.x = {x.view().data, static_cast<std::size_t>(size)}, .result = &sum});
    for (const double value : x.to_f64()) expected += value * value;
    constexpr double kF64Tolerance = 1e-13;  // 10^5 roundings of 2^-53, mostly cancelling
    EXPECT_NEAR(sum, expected, kF64Tolerance * expected) << size;
  }
}

TEST_P(RowsTest, FirstNonFiniteFindsTheFirst) {
  constexpr int kSize = 50001;
  const auto find = [&](TestMatrix& x) {
    std::int64_t position = -2;
    backend().first_non_finite(stream, {.x = {x.view().data, static_cast<std::size_t>(x.cols())}, .result = &position});
    return position;
  };
  TestMatrix x = normal(1, kSize, 1, 1.0f, 0), empty(1, 0, 0);
  x.at(0, 3) = std::numeric_limits<float>::max();
  x.at(0, 5) = std::numeric_limits<float>::denorm_min();
  EXPECT_EQ(find(x), -1);
  EXPECT_EQ(find(empty), -1);
  for (const int index : {kSize - 1, 8200, 8191, 17, 0}) {
    x.at(0, index) = index % 2 == 0 ? -std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
    EXPECT_EQ(find(x), index);
  }
}

TEST_P(RowsTest, LayerNormGeluAndTheirGradientsRefuseShapesThatDiffer) {
  const int R = 3, D = 5;
  TestMatrix x = normal(R, D, 1), gain = normal(1, D, 2), narrower(R, D - 1);
  EXPECT_THROW(backend().layer_norm(stream, {.x_RD = x.view(), .gain_D = gain.row(0), .y_RD = narrower.view()}), Error);
  EXPECT_THROW(backend().layer_norm(stream, {.x_RD = x.view(), .gain_D = gain.row(0), .y_RD = x.view(), .eps = 0}),
               Error);
  LayerNormGrad grad{.x_RD = x.view(),
                     .gain_D = gain.row(0),
                     .dy_RD = x.view(),
                     .dx_RD = x.view(),
                     .dgain_D = gain.row(0),
                     .accumulate_dx = true};
  EXPECT_THROW(backend().layer_norm_grad(stream, grad), Error);  // dx is dy
  grad.accumulate_dx = false, grad.dx_RD = narrower.view();
  EXPECT_THROW(backend().layer_norm_grad(stream, grad), Error);
  EXPECT_THROW(backend().gelu(stream, {.x_RF = x.view(), .y_RF = narrower.view()}), Error);
  EXPECT_THROW(backend().gelu_grad(stream, {x.view(), x.view(), x.view(), narrower.view()}), Error);
  std::vector<Bf16> bf16(R * D);
  const Matrix<Bf16> mixed{bf16.data(), R, D, D};
  EXPECT_THROW(backend().layer_norm(stream, {.x_RD = mixed, .gain_D = gain.row(0), .y_RD = x.view()}), Error);
  EXPECT_THROW(backend().gelu(stream, {.x_RF = x.view(), .y_RF = mixed}), Error);
}

INSTANTIATE_TEST_SUITE_P(Backends, RowsTest, every_backend(), backend_name);

}  // namespace
}  // namespace slipway
