// Every gradient is the slope of its forward op: against central differences of the f64 oracle, and the f64 analytic
// gradients of the parity tests against the same differences.
#include "tests/support/kernels_oracle.hpp"
#include "tests/support/test_matrix.hpp"

namespace slipway {
namespace {

using namespace testing_support;
using oracle::central_differences;
using oracle::dot;
using oracle::F64Vector;

constexpr double kAnalyticTolerance = 1e-8;  // differences in f64 are exact to about 1e-9 here
constexpr double kKernelTolerance = 1e-5;    // the backend's f32 sums of some dozen terms near 1

void expect_slope(const F64Vector& analytic, const F64Vector& slope, const char* what) {
  ASSERT_EQ(analytic.size(), slope.size());
  for (std::size_t i = 0; i < slope.size(); ++i)
    ASSERT_NEAR(analytic[i], slope[i], kAnalyticTolerance * std::max(1.0, std::abs(slope[i]))) << what << " at " << i;
}

class GradientTest : public KernelTest {};

TEST_P(GradientTest, OfRmsNorm) {
  const int R = 3, D = 33;
  const double eps = 1e-2;  // large enough to count
  const TestMatrix x = normal(R, D, 1), gain = normal(1, D, 2), dy = normal(R, D, 3);
  const F64Vector x64 = x.to_f64(), gain64 = gain.to_f64(), dy64 = dy.to_f64();
  const F64Vector x_slope =
      central_differences(x64, [&](const F64Vector& v) { return dot(oracle::rms_norm(v, gain64, R, D, eps), dy64); });
  const F64Vector gain_slope =
      central_differences(gain64, [&](const F64Vector& v) { return dot(oracle::rms_norm(x64, v, R, D, eps), dy64); });

  F64Vector dx64, dgain64(D);
  oracle::rms_norm_grad(x64, gain64, dy64, R, D, eps, dx64, dgain64);
  expect_slope(dx64, x_slope, "dx");
  expect_slope(dgain64, gain_slope, "dgain");

  TestMatrix dx(R, D), dgain(1, D);
  backend().rms_norm_grad(stream, {.x_RD = x.view(),
                                   .gain_D = gain.row(0),
                                   .dy_RD = dy.view(),
                                   .dx_RD = dx.view(),
                                   .dgain_D = dgain.row(0),
                                   .eps = static_cast<float>(eps)});
  expect_close(dx, x_slope, kKernelTolerance, "dx");
  expect_close(dgain, gain_slope, kKernelTolerance, "dgain");
}

TEST_P(GradientTest, OfLayerNorm) {
  const int R = 3, D = 33;
  const double eps = 1e-2;  // large enough to count
  const TestMatrix x = normal(R, D, 1), gain = normal(1, D, 2), bias = normal(1, D, 3), dy = normal(R, D, 4);
  const F64Vector x64 = x.to_f64(), gain64 = gain.to_f64(), bias64 = bias.to_f64(), dy64 = dy.to_f64();
  const auto objective = [&](const F64Vector& x_, const F64Vector& gain_, const F64Vector& bias_) {
    return dot(oracle::layer_norm(x_, gain_, bias_, R, D, eps), dy64);
  };
  const F64Vector x_slope = central_differences(x64, [&](const F64Vector& v) { return objective(v, gain64, bias64); });
  const F64Vector gain_slope =
      central_differences(gain64, [&](const F64Vector& v) { return objective(x64, v, bias64); });
  const F64Vector bias_slope =
      central_differences(bias64, [&](const F64Vector& v) { return objective(x64, gain64, v); });

  F64Vector dx64, dgain64(D), dbias64(D);
  oracle::layer_norm_grad(x64, gain64, dy64, R, D, eps, dx64, dgain64, dbias64);
  expect_slope(dx64, x_slope, "dx");
  expect_slope(dgain64, gain_slope, "dgain");
  expect_slope(dbias64, bias_slope, "dbias");

  TestMatrix dx(R, D), dgain(1, D), dbias(1, D);
  backend().layer_norm_grad(
      stream, {x.view(), gain.row(0), dy.view(), dx.view(), dgain.row(0), dbias.row(0), static_cast<float>(eps)});
  expect_close(dx, x_slope, kKernelTolerance, "dx");
  expect_close(dgain, gain_slope, kKernelTolerance, "dgain");
  expect_close(dbias, bias_slope, kKernelTolerance, "dbias");
}

TEST_P(GradientTest, OfGelu) {
  const int R = 3, F = 31;
  const TestMatrix x = normal(R, F, 1, 2.0f), dy = normal(R, F, 2);
  const F64Vector x64 = x.to_f64(), dy64 = dy.to_f64();
  const F64Vector slope = central_differences(x64, [&](const F64Vector& v) { return dot(oracle::gelu(v), dy64); });
  expect_slope(oracle::gelu_grad(x64, dy64), slope, "dx");
  TestMatrix dx(R, F);
  backend().gelu_grad(stream, {x.view(), dy.view(), dx.view()});
  expect_close(dx, slope, kKernelTolerance, "dx");
}

TEST_P(GradientTest, OfSwiglu) {
  const int R = 3, F = 31;
  const TestMatrix gate = normal(R, F, 1, 2.0f), up = normal(R, F, 2), dy = normal(R, F, 3);
  const F64Vector gate64 = gate.to_f64(), up64 = up.to_f64(), dy64 = dy.to_f64();
  const F64Vector gate_slope =
      central_differences(gate64, [&](const F64Vector& v) { return dot(oracle::swiglu(v, up64), dy64); });
  const F64Vector up_slope =
      central_differences(up64, [&](const F64Vector& v) { return dot(oracle::swiglu(gate64, v), dy64); });

  F64Vector dgate64, dup64;
  oracle::swiglu_grad(gate64, up64, dy64, dgate64, dup64);
  expect_slope(dgate64, gate_slope, "dgate");
  expect_slope(dup64, up_slope, "dup");

  TestMatrix dgate(R, F), dup(R, F);
  backend().swiglu_grad(stream, {gate.view(), up.view(), dy.view(), dgate.view(), dup.view()});
  expect_close(dgate, gate_slope, kKernelTolerance, "dgate");
  expect_close(dup, up_slope, kKernelTolerance, "dup");
}

TEST_P(GradientTest, OfCrossEntropy) {
  const int R = 4, V = 33, valid = 31;
  const TestMatrix logits = normal(R, V, 1, 2.0f), weight = normal(1, R, 2, 1.0f, 0);
  const std::vector<int> target = integers(R, 0, valid, 3);
  const F64Vector slope = central_differences(logits.to_f64(), [&](const F64Vector& v) {
    return oracle::cross_entropy(v, target, weight.to_f64(), R, V, valid);
  });

  std::vector<SoftmaxPartial> partials(R);
  std::vector<float> lse;
  TestMatrix grad(R, V);
  backend().softmax_partials(stream, {logits.view(), target.data(), valid, partials.data(), grad.view()});
  for (const SoftmaxPartial& partial : partials) lse.push_back(merge(&partial, 1, 1).max);
  backend().cross_entropy_grad(stream, {grad.view(), target.data(), partials.data(), lse.data(), weight.row(0), valid});
  expect_close(grad, slope, kKernelTolerance, "dlogits");
}

TEST_P(GradientTest, OfAttentionWithGroupsAndDocuments) {
  const int B = 2, T = 13, H = 3, G = 2, K = 5;
  std::vector<int> key_start;
  for (int b = 0; b < B; ++b)
    for (int t = 0; t < T; ++t) key_start.push_back(t < 4 + b ? 0 : 4 + b);
  const AttentionShape shape{.sequences = B,
                             .queries = T,
                             .keys = T,
                             .heads = H,
                             .kv_heads = G,
                             .head_width = K,
                             .queries_per_kv = 2,
                             .scale = 0.5f,
                             .key_start_BT = key_start.data()};
  const TestMatrix q = normal(B * T, H * K, 1), k = normal(B * T, G * K, 2), v = normal(B * T, G * K, 3),
                   dout = normal(B * T, H * K, 4);
  const F64Vector q64 = q.to_f64(), k64 = k.to_f64(), v64 = v.to_f64(), dout64 = dout.to_f64();
  const auto objective = [&](const F64Vector& queries, const F64Vector& keys, const F64Vector& values) {
    F64Vector out, lse;
    oracle::attention(shape, queries, keys, values, out, lse);
    return dot(out, dout64);
  };
  const F64Vector q_slope = central_differences(q64, [&](const F64Vector& x) { return objective(x, k64, v64); });
  const F64Vector k_slope = central_differences(k64, [&](const F64Vector& x) { return objective(q64, x, v64); });
  const F64Vector v_slope = central_differences(v64, [&](const F64Vector& x) { return objective(q64, k64, x); });

  F64Vector dq64, dk64, dv64;
  oracle::attention_grad(shape, q64, k64, v64, dout64, dq64, dk64, dv64);
  expect_slope(dq64, q_slope, "dq");
  expect_slope(dk64, k_slope, "dk");
  expect_slope(dv64, v_slope, "dv");

  TestMatrix out(B * T, H * K), lse(B * T, H), dq(B * T, H * K), dk(B * T, G * K), dv(B * T, G * K);
  backend().attention(stream, {shape, q.view(), k.view(), v.view(), out.view(), lse.view()});
  backend().attention_grad(stream, {shape, q.view(), k.view(), v.view(), out.view(), lse.view(), dout.view(), dq.view(),
                                    dk.view(), dv.view()});
  expect_close(dq, q_slope, kKernelTolerance, "dq");
  expect_close(dk, k_slope, kKernelTolerance, "dk");
  expect_close(dv, v_slope, kKernelTolerance, "dv");
}

// Linear ops: the gradient is the transpose, so <A x, y> = <x, A^T y>.
TEST_P(GradientTest, OfRopeIsTheInverseRotation) {
  const int N = 9, heads = 2, K = 10;
  TestMatrix cos(64, K / 2), sin(64, K / 2), x = normal(N, heads * K, 1), y = normal(N, heads * K, 2);
  rope_table(cos.view(), sin.view(), K, 500.0);
  const std::vector<int> position = integers(N, 0, 64, 3);
  const F64Vector x64 = x.to_f64(), y64 = y.to_f64();
  backend().rope(stream, {x.view(), position.data(), cos.view(), sin.view(), K, false});
  backend().rope(stream, {y.view(), position.data(), cos.view(), sin.view(), K, true});
  EXPECT_NEAR(dot(x.to_f64(), y64), dot(x64, y.to_f64()), kKernelTolerance * std::sqrt(dot(x64, x64) * dot(y64, y64)));
}

TEST_P(GradientTest, OfEmbeddingIsTheTranspose) {
  const int N = 40, V = 9, D = 31;
  const TestMatrix table = normal(V, D, 1), dy = normal(N, D, 2);
  const std::vector<int> id = integers(N, 0, 12, 3);
  TestMatrix y(N, D), dtable(V, D);
  backend().embedding(stream, {table.view(), id.data(), 1, y.view()});
  backend().embedding_grad(stream, {dy.view(), id.data(), 1, dtable.view()});
  const double expected = dot(y.to_f64(), dy.to_f64());
  EXPECT_NEAR(dot(table.to_f64(), dtable.to_f64()), expected, kKernelTolerance * std::sqrt(static_cast<double>(N) * D));
}

INSTANTIATE_TEST_SUITE_P(Backends, GradientTest, every_backend(), backend_name);

}  // namespace
}  // namespace slipway
