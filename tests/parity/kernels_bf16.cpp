// Every op that computes on bf16, of every backend, against f64 loops on the same bf16 numbers.
#include "tests/support/kernels_oracle.hpp"
#include "tests/support/test_matrix.hpp"

namespace slipway {
namespace {

using namespace testing_support;
using oracle::F64Vector;

// One rounding to bf16 (8 bits) is at most 2^-8 of the value; sums before it are f32 and add next to nothing.
constexpr double kRounding = 1.0 / 256 + 1e-5;

/// A TestMatrix in bf16: rows between columns of NaN, of whole eights on 16-byte boundaries, others an odd number of
/// elements apart, so that no pair of elements is aligned by luck.
class Bf16Matrix {
 public:
  explicit Bf16Matrix(const TestMatrix& values)
      : rows_(values.rows()), cols_(values.cols()), stride_(cols_ % 8 == 0 ? cols_ + 8 : cols_ + 3 - cols_ % 2) {
    data_.assign(static_cast<std::size_t>(rows_) * static_cast<std::size_t>(stride_), to_bf16(kNaN));
    for (int r = 0; r < rows_; ++r)
      for (int c = 0; c < cols_; ++c) view().row(r)[c] = to_bf16(values.row(r)[c]);
  }
  Bf16Matrix(int rows, int cols) : Bf16Matrix(TestMatrix(rows, cols)) {}

  Matrix<Bf16> view() { return {data_.data(), rows_, cols_, stride_}; }
  /// As f32, exactly; what lies between the rows must still be NaN.
  TestMatrix to_f32_matrix() {
    TestMatrix matrix(rows_, cols_);
    for (int r = 0; r < rows_; ++r) {
      for (int c = 0; c < cols_; ++c) matrix.at(r, c) = to_f32(view().row(r)[c]);
      for (int c = cols_; c < stride_; ++c)
        EXPECT_TRUE(std::isnan(to_f32(view().row(r)[c]))) << "wrote outside its columns";
    }
    return matrix;
  }
  F64Vector to_f64() { return to_f32_matrix().to_f64(); }

 private:
  static constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  int rows_, cols_, stride_;
  std::vector<Bf16> data_;
};

Bf16Matrix random_bf16(int rows, int cols, std::uint64_t seed, float size = 1.0f) {
  return Bf16Matrix(normal(rows, cols, seed, size));
}

class Bf16Test : public KernelTest {};

TEST_P(Bf16Test, RmsNormMatchesDoublePrecisionAlsoOverPartsOfARow) {
  for (const int parts : {1, 3})
    for (const int D : {2, 31, 64}) {
      const int R = 67;
      const TestMatrix x = normal(R, parts * D, 1), gain = normal(1, D, 2);
      Bf16Matrix x16(x), y(R, parts * D), y16(R, parts * D);
      RmsNorm op{x.view(), gain.row(0), y.view(), 1e-5f, parts};
      backend().rms_norm(stream, op);
      expect_close(y.to_f32_matrix(), oracle::rms_norm(x.to_f64(), gain.to_f64(), R * parts, D, 1e-5), kRounding,
                   "y of f32");
      op.x_RD = x16.view(), op.y_RD = y16.view();
      backend().rms_norm(stream, op);
      expect_close(y16.to_f32_matrix(), oracle::rms_norm(x16.to_f64(), gain.to_f64(), R * parts, D, 1e-5), kRounding,
                   "y of bf16");
    }
}

TEST_P(Bf16Test, RmsNormGradMatchesDoublePrecisionOverParts) {
  const int R = 67, D = 33, parts = 2;
  const TestMatrix gain = normal(1, D, 2);
  Bf16Matrix x = random_bf16(R, parts * D, 1), dy = random_bf16(R, parts * D, 3), dx(R, parts * D);
  TestMatrix dgain = normal(1, D, 5);
  F64Vector expected_dx, expected_dgain = dgain.to_f64();
  oracle::rms_norm_grad(x.to_f64(), gain.to_f64(), dy.to_f64(), R * parts, D, 1e-5, expected_dx, expected_dgain);
  backend().rms_norm_grad(stream, {.x_RD = x.view(),
                                   .gain_D = gain.row(0),
                                   .dy_RD = dy.view(),
                                   .dx_RD = dx.view(),
                                   .dgain_D = dgain.row(0),
                                   .eps = 1e-5f,
                                   .groups = parts});
  expect_close(dx.to_f32_matrix(), expected_dx, kRounding, "dx");
  expect_close(dgain, expected_dgain, 1e-5, "dgain");
}

TEST_P(Bf16Test, LayerNormMatchesDoublePrecision) {
  for (const int D : {2, 31, 64, 1104}) {
    const int R = 5;
    const TestMatrix x = normal(R, D, 1), gain = normal(1, D, 2), bias = normal(1, D, 3);
    Bf16Matrix x16(x), y(R, D), y16(R, D);
    backend().layer_norm(stream, {x.view(), gain.row(0), bias.row(0), y.view(), 1e-3f});
    const F64Vector expected = oracle::layer_norm(x.to_f64(), gain.to_f64(), bias.to_f64(), R, D, 1e-3);
    expect_close(y.to_f32_matrix(), expected, kRounding, "y of f32");
    backend().layer_norm(stream, {x16.view(), gain.row(0), bias.row(0), y16.view(), 1e-3f});
    const F64Vector expected16 = oracle::layer_norm(x16.to_f64(), gain.to_f64(), bias.to_f64(), R, D, 1e-3);
    expect_close(y16.to_f32_matrix(), expected16, kRounding, "y of bf16");
    backend().layer_norm(stream, {x16.view(), gain.row(0), bias.row(0), x16.view(), 1e-3f});
    expect_same_bits(x16.to_f32_matrix(), y16.to_f32_matrix(), "y in place of x");
  }
}

TEST_P(Bf16Test, LayerNormGradMatchesDoublePrecision) {
  for (const int D : {33, 64, 1104}) {
    const int R = 67;
    const TestMatrix gain = normal(1, D, 2);
    Bf16Matrix x = random_bf16(R, D, 1), dy = random_bf16(R, D, 3), dx(R, D);
    TestMatrix dgain = normal(1, D, 5), dbias = normal(1, D, 6);
    F64Vector expected_dx, expected_dgain = dgain.to_f64(), expected_dbias = dbias.to_f64();
    oracle::layer_norm_grad(x.to_f64(), gain.to_f64(), dy.to_f64(), R, D, 1e-5, expected_dx, expected_dgain,
                            expected_dbias);
    backend().layer_norm_grad(stream,
                              {x.view(), gain.row(0), dy.view(), dx.view(), dgain.row(0), dbias.row(0), /*eps=*/1e-5f});
    expect_close(dx.to_f32_matrix(), expected_dx, kRounding, "dx");
    expect_close(dgain, expected_dgain, 1e-5, "dgain");
    expect_close(dbias, expected_dbias, 1e-5, "dbias");
  }
}

TEST_P(Bf16Test, RopeMatchesDoublePrecision) {
  const int N = 19, heads = 3, K = 32;
  TestMatrix cos(2048, K / 2), sin(2048, K / 2);
  rope_table(cos.view(), sin.view(), K, 10000.0);
  Bf16Matrix x = random_bf16(N, heads * K, 1);
  const F64Vector before = x.to_f64();
  const std::vector<int> position = integers(N, 0, 2048, 2);
  backend().rope(stream, {x.view(), position.data(), cos.view(), sin.view(), K});
  expect_close(x.to_f32_matrix(), oracle::rope(before, position, N, heads, K, 10000.0, false), kRounding, "turned");
}

TEST_P(Bf16Test, SwigluAndItsGradientMatchDoublePrecision) {
  const int R = 67, F = 45;
  Bf16Matrix gate = random_bf16(R, F, 1, 5.0f), up = random_bf16(R, F, 2), dy = random_bf16(R, F, 3), y(R, F),
             dgate(R, F), recomputed(R, F);
  F64Vector expected_dgate, expected_dup;
  oracle::swiglu_grad(gate.to_f64(), up.to_f64(), dy.to_f64(), expected_dgate, expected_dup);
  backend().swiglu(stream, {gate.view(), up.view(), y.view()});
  expect_close(y.to_f32_matrix(), oracle::swiglu(gate.to_f64(), up.to_f64()), kRounding, "y");
  backend().swiglu_grad(stream, {gate.view(), up.view(), dy.view(), dgate.view(), dy.view(), recomputed.view()});
  expect_close(dgate.to_f32_matrix(), expected_dgate, kRounding, "dgate");
  expect_close(dy.to_f32_matrix(), expected_dup, kRounding, "dup in place of dy");
  expect_same_bits(recomputed.to_f32_matrix(), y.to_f32_matrix(), "y made again");
}

TEST_P(Bf16Test, GeluAndItsGradientMatchDoublePrecision) {
  for (const int F : {45, 64, 1104}) {
    const int R = 9;
    Bf16Matrix x = random_bf16(R, F, 1, 3.0f), dy = random_bf16(R, F, 2), y(R, F), dx(R, F), recomputed(R, F);
    const F64Vector expected_dx = oracle::gelu_grad(x.to_f64(), dy.to_f64());
    backend().gelu(stream, {x.view(), y.view()});
    expect_close(y.to_f32_matrix(), oracle::gelu(x.to_f64()), kRounding, "y");
    backend().gelu_grad(stream, {x.view(), dy.view(), dx.view()});
    expect_close(dx.to_f32_matrix(), expected_dx, kRounding, "dx");
    backend().gelu_grad(stream, {x.view(), dy.view(), dy.view(), recomputed.view()});
    expect_same_bits(dy.to_f32_matrix(), dx.to_f32_matrix(), "dx in place of dy");
    expect_same_bits(recomputed.to_f32_matrix(), y.to_f32_matrix(), "y recomputed");
  }
}

TEST_P(Bf16Test, BiasesMatchDoublePrecision) {
  const int R = 130, D = 31;
  const TestMatrix bias = normal(1, D, 2);
  Bf16Matrix y = random_bf16(R, D, 3);
  TestMatrix dbias(1, D);
  F64Vector expected = y.to_f64(), expected_dbias(D);
  for (int r = 0; r < R; ++r)
    for (int d = 0; d < D; ++d) {
      expected_dbias[static_cast<std::size_t>(d)] += expected[oracle::flat_index(r, D, d)];
      expected[oracle::flat_index(r, D, d)] += static_cast<double>(bias.row(0)[d]);
    }
  backend().bias_grad(stream, {y.view(), dbias.row(0)});
  expect_close(dbias, expected_dbias, 1e-5, "dbias");
  backend().add_bias(stream, {bias.row(0), y.view()});
  expect_close(y.to_f32_matrix(), expected, kRounding, "biased");
}

TEST_P(Bf16Test, TheLossGradientIsExactAtItsTarget) {
  const int R = 9, V = 67, valid = 61;
  const TestMatrix logits = normal(R, V, 1, 5.0f), weight = normal(1, R, 3, 1.0f, 0);
  const std::vector<int> target = integers(R, 0, valid, 2);
  std::vector<SoftmaxPartial> partials(R);
  std::vector<float> lse;
  Bf16Matrix grad(R, V);
  backend().softmax_partials(stream, {logits.view(), target.data(), valid, partials.data(), grad.view()});
  for (const SoftmaxPartial& partial : partials) lse.push_back(merge(&partial, 1, 1).max);
  backend().cross_entropy_grad(stream, {grad.view(), target.data(), partials.data(), lse.data(), weight.row(0), valid});
  const F64Vector values = logits.to_f64();
  TestMatrix actual = grad.to_f32_matrix();
  for (int r = 0; r < R; ++r) {
    const double log_sum =
        oracle::log_sum_exp({values.data() + oracle::flat_index(r, V, 0), static_cast<std::size_t>(valid)});
    for (int v = 0; v < V; ++v) {
      const bool hit = v == target[static_cast<std::size_t>(r)];
      const double expected = v >= valid ? 0.0
                                         : static_cast<double>(weight.row(0)[r]) *
                                               (std::exp(values[oracle::flat_index(r, V, v)] - log_sum) - hit);
      // Relative, also where softmax is near 1 at the target: two roundings elsewhere, one there.
      ASSERT_NEAR(actual.at(r, v), expected, std::abs(expected) * (hit ? kRounding + 1e-4 : 2 * kRounding) + 1e-9)
          << "row " << r << ", column " << v << (hit ? ", the target" : "");
    }
  }
}

TEST_P(Bf16Test, ProductsRoundOnce) {
  for (const int M : {1, 3, 70})
    for (const bool transpose_b : {false, true}) {
      const int N = 37, K = 66;
      Bf16Matrix a = random_bf16(M, K, 1), b = transpose_b ? random_bf16(N, K, 2) : random_bf16(K, N, 2), c(M, N);
      backend().matmul(stream, {.a = a.view(), .b = b.view(), .c = c.view(), .transpose_b = transpose_b});
      const F64Vector zeros(static_cast<std::size_t>(M * N));
      expect_close(c.to_f32_matrix(), oracle::matmul(a.to_f64(), b.to_f64(), M, N, K, false, transpose_b, zeros),
                   kRounding, join("c of ", M, " rows"));
      EXPECT_THROW(
          backend().matmul(
              stream, {.a = a.view(), .b = b.view(), .c = c.view(), .transpose_b = transpose_b, .accumulate = true}),
          Error);
    }
}

/// A shape with the chance in percent that a row begins a document.
struct Case {
  AttentionShape shape;
  int document_percent = 0;
};
const std::vector<Case> kCases = {
    {{.sequences = 1, .queries = 1, .keys = 1, .heads = 1, .kv_heads = 1, .head_width = 2}},
    {{.sequences = 2, .queries = 33, .keys = 33, .heads = 3, .kv_heads = 3, .head_width = 8}},
    {{.sequences = 1, .queries = 127, .keys = 127, .heads = 4, .kv_heads = 2, .head_width = 32, .queries_per_kv = 2}},
    {{.sequences = 2, .queries = 197, .keys = 197, .heads = 3, .kv_heads = 1, .head_width = 40, .queries_per_kv = 3},
     5},
    {{.sequences = 1, .queries = 145, .keys = 145, .heads = 2, .kv_heads = 1, .head_width = 64, .queries_per_kv = 2},
     30},
    {{.sequences = 1, .queries = 50, .keys = 50, .heads = 1, .kv_heads = 1, .head_width = 128}},
    {{.sequences = 1, .queries = 31, .keys = 31, .heads = 5, .kv_heads = 2, .head_width = 6, .queries_per_kv = 2}},
    {{.sequences = 0, .queries = 0, .keys = 0, .heads = 2, .kv_heads = 1, .head_width = 8, .queries_per_kv = 2}},
};
const std::vector<Case> kCached = {
    {{.sequences = 2,
      .queries = 1,
      .keys = 131,
      .key_rows = 160,
      .heads = 4,
      .kv_heads = 2,
      .head_width = 32,
      .queries_per_kv = 2}},
    {{.sequences = 1, .queries = 5, .keys = 103, .heads = 3, .kv_heads = 3, .head_width = 34}},
};

/// bf16 inputs, and room for what comes out.
struct Problem {
  AttentionShape shape;
  std::vector<int> key_start;
  Bf16Matrix q, k, v, dout, out, dq, dk, dv;
  TestMatrix lse;

  static int key_rows(const AttentionShape& s) { return s.sequences * (s.key_rows == 0 ? s.keys : s.key_rows); }
  Problem(const Case& c, std::uint64_t seed)
      : shape(c.shape),
        q(random_bf16(shape.sequences * shape.queries, shape.heads * shape.head_width, seed)),
        k(random_bf16(key_rows(shape), shape.kv_heads * shape.head_width, seed + 1)),
        v(random_bf16(key_rows(shape), shape.kv_heads * shape.head_width, seed + 2)),
        dout(random_bf16(shape.sequences * shape.queries, shape.heads * shape.head_width, seed + 3)),
        out(shape.sequences * shape.queries, shape.heads * shape.head_width),
        dq(shape.sequences * shape.queries, shape.heads * shape.head_width),
        dk(key_rows(shape), shape.kv_heads * shape.head_width),
        dv(key_rows(shape), shape.kv_heads * shape.head_width),
        lse(shape.sequences * shape.queries, shape.heads) {
    shape.scale = 1.0f / std::sqrt(static_cast<float>(shape.head_width));
    if (c.document_percent == 0) return;
    const std::vector<int> rolls = integers(shape.sequences * shape.queries, 0, 100, seed + 4);
    for (int b = 0; b < shape.sequences; ++b)
      for (int t = 0, first = 0; t < shape.queries; ++t) {
        if (rolls[static_cast<std::size_t>(b * shape.queries + t)] < c.document_percent) first = t;
        key_start.push_back(first);
      }
    shape.key_start_BT = key_start.data();
  }
  Attention forward() { return {shape, q.view(), k.view(), v.view(), out.view(), lse.view()}; }
};

// Weights are rounded before they multiply v, and the sum is rounded once more: 2^-8 each, of values near 1. Gradients
// sum rounded weights and rounded score gradients times values near 1, and meet the rounded output in out . dout.
constexpr double kAttentionTolerance = 2 * kRounding;
constexpr double kAttentionGradTolerance = 0.02;

TEST_P(Bf16Test, AttentionMatchesDoublePrecision) {
  for (const std::vector<Case>& cases : {kCases, kCached})
    for (const Case& c : cases) {
      Problem problem(c, 11);
      backend().attention(stream, problem.forward());
      F64Vector out, lse;
      oracle::attention(problem.shape, problem.q.to_f64(), problem.k.to_f64(), problem.v.to_f64(), out, lse);
      const std::string case_text = join("T=", c.shape.queries, " S=", c.shape.keys, " K=", c.shape.head_width);
      ASSERT_NO_FATAL_FAILURE(expect_close(problem.out.to_f32_matrix(), out, kAttentionTolerance, case_text + " out"));
      ASSERT_NO_FATAL_FAILURE(expect_close(problem.lse, lse, 1e-5, case_text + " lse"));
    }
}

TEST_P(Bf16Test, AttentionGradientMatchesDoublePrecision) {
  for (const Case& c : kCases)
    for (const int count : {1, 3}) {  // one thread takes whole heads, three threads take tiles
      stream.threads = count;
      Problem problem(c, 23);
      backend().attention(stream, problem.forward());
      backend().attention_grad(
          stream, {problem.shape, problem.q.view(), problem.k.view(), problem.v.view(), problem.out.view(),
                   problem.lse.view(), problem.dout.view(), problem.dq.view(), problem.dk.view(), problem.dv.view()});
      F64Vector dq, dk, dv;
      oracle::attention_grad(problem.shape, problem.q.to_f64(), problem.k.to_f64(), problem.v.to_f64(),
                             problem.dout.to_f64(), dq, dk, dv);
      const std::string case_text = join("T=", c.shape.queries, " K=", c.shape.head_width, " threads=", count);
      ASSERT_NO_FATAL_FAILURE(expect_close(problem.dq.to_f32_matrix(), dq, kAttentionGradTolerance, case_text + " dq"));
      ASSERT_NO_FATAL_FAILURE(expect_close(problem.dk.to_f32_matrix(), dk, kAttentionGradTolerance, case_text + " dk"));
      ASSERT_NO_FATAL_FAILURE(expect_close(problem.dv.to_f32_matrix(), dv, kAttentionGradTolerance, case_text + " dv"));
    }
}

/// Root of the mean squared error over the root of the mean square.
double error_of(const F64Vector& actual, const F64Vector& expected) {
  double error = 0, size = 0;
  for (std::size_t i = 0; i < expected.size(); ++i)
    error += std::pow(actual[i] - expected[i], 2), size += expected[i] * expected[i];
  return std::sqrt(error / size);
}

// Roundings are even, so over a tensor they mostly cancel: what does not is a mistake in a corner that a bound for
// each element is too wide for.
TEST_P(Bf16Test, AttentionIsRightOnAverage) {
  for (const int documents : {0, 1}) {
    Problem problem(Case{{.sequences = 1,
                          .queries = 300,
                          .keys = 300,
                          .heads = 2,
                          .kv_heads = 1,
                          .head_width = 64,
                          .queries_per_kv = 2},
                         documents},
                    51);
    backend().attention(stream, problem.forward());
    backend().attention_grad(
        stream, {problem.shape, problem.q.view(), problem.k.view(), problem.v.view(), problem.out.view(),
                 problem.lse.view(), problem.dout.view(), problem.dq.view(), problem.dk.view(), problem.dv.view()});
    F64Vector out, lse, dq, dk, dv;
    const F64Vector q = problem.q.to_f64(), k = problem.k.to_f64(), v = problem.v.to_f64();
    oracle::attention(problem.shape, q, k, v, out, lse);
    oracle::attention_grad(problem.shape, q, k, v, problem.dout.to_f64(), dq, dk, dv);
    constexpr double kAverage = 0.004;  // 2^-8 at most and a half of that on average, by two roundings
    EXPECT_LT(error_of(problem.out.to_f64(), out), kAverage);
    EXPECT_LT(error_of(problem.dq.to_f64(), dq), kAverage);
    EXPECT_LT(error_of(problem.dk.to_f64(), dk), kAverage);
    EXPECT_LT(error_of(problem.dv.to_f64(), dv), kAverage);
  }
}

TEST_P(Bf16Test, AttentionLetsNaNThroughToItsOwnQueryAlone) {
  Problem problem(Case{{.sequences = 1, .queries = 20, .keys = 20, .heads = 1, .kv_heads = 1, .head_width = 8}}, 37);
  problem.q.view().row(3)[2] = to_bf16(std::numeric_limits<float>::quiet_NaN());
  backend().attention(stream, problem.forward());
  const TestMatrix out = problem.out.to_f32_matrix();
  EXPECT_TRUE(std::isnan(out.row(3)[0]));
  EXPECT_TRUE(std::isfinite(out.row(2)[0]));
  EXPECT_TRUE(std::isfinite(out.row(4)[0]));
}

TEST_P(Bf16Test, AttentionRefusesAnOddHeadAndMixedTypes) {
  Problem odd_head(Case{{.sequences = 1, .queries = 4, .keys = 4, .heads = 1, .kv_heads = 1, .head_width = 7}}, 41);
  EXPECT_THROW(backend().attention(stream, odd_head.forward()), Error);
  Problem mixed(Case{{.sequences = 1, .queries = 4, .keys = 4, .heads = 1, .kv_heads = 1, .head_width = 8}}, 41);
  Attention op = mixed.forward();
  const TestMatrix k = normal(4, 8, 1);
  op.k_SGK = k.view();
  EXPECT_THROW(backend().attention(stream, op), Error);
}

INSTANTIATE_TEST_SUITE_P(Backends, Bf16Test, every_backend(), backend_name);

}  // namespace
}  // namespace slipway
