// Products with weights in blocks of 8 bits: the numbers of their exact values, whatever the number of rows.
#include "kernels/quantized.hpp"
#include "tests/support/kernels_oracle.hpp"
#include "tests/support/test_matrix.hpp"

namespace slipway {
namespace {

using namespace testing_support;

constexpr double kTolerance = 6e-5;  // as for products of f32: kernels_matmul.cpp

/// Random blocks, extreme bytes and scales of 0 included, and the weights that they stand for.
struct QuantizedBlocks {
  std::vector<std::int8_t> values;
  std::vector<float> scales;
  int rows, cols;

  QuantizedBlocks(int N, int K, std::uint64_t seed) : rows(N), cols(K) {
    for (const int byte : integers(N * K, -128, 128, seed)) values.push_back(static_cast<std::int8_t>(byte));
    for (const int scale : integers(N * K / QuantizedRows::kBlock, 0, 12, seed + 1))
      scales.push_back(std::ldexp(1.0f + static_cast<float>(scale) / 16, -scale) * (scale == 0 ? 0.0f : 0.02f));
    for (float& scale : scales) scale = f16_to_f32(to_f16_bits(scale));
  }
  QuantizedRows view() const { return {values.data(), scales.data(), rows, cols}; }
  TestMatrix weights() const {
    TestMatrix w(rows, cols, 0);
    for (int n = 0; n < rows; ++n)
      for (int k = 0; k < cols; ++k) {
        const auto i = static_cast<std::size_t>(n * cols + k);
        w.at(n, k) = static_cast<float>(values[i]) * scales[i / QuantizedRows::kBlock];
      }
    return w;
  }
};

class QuantizedTest : public KernelTest {};

TEST_P(QuantizedTest, ProductsMatchDoublePrecision) {
  const std::vector<std::vector<int>> sizes = {{1, 1, 32},  {1, 37, 96},   {3, 600, 64}, {8, 33, 768},
                                               {9, 5, 160}, {40, 600, 96}, {0, 4, 32},   {4, 0, 32}};
  for (const auto& size : sizes) {
    const int M = size[0], N = size[1], K = size[2];
    const QuantizedBlocks w(N, K, 7);
    const TestMatrix x = normal(M, K, 1);
    TestMatrix c(M, N);
    const auto expected = oracle::matmul(x.to_f64(), w.weights().to_f64(), M, N, K, false, true,
                                         oracle::F64Vector(static_cast<std::size_t>(M) * static_cast<std::size_t>(N)));
    backend().matmul_quantized(stream, {.a = x.view(), .w = w.view(), .c = c.view()});
    ASSERT_NO_FATAL_FAILURE(expect_close(c, expected, kTolerance, join("M=", M, " N=", N, " K=", K)));
  }
}

TEST_P(QuantizedTest, FewRowsHaveTheBitsOfTheF32ProductAndOfEachRowAlone) {
  if (std::string(backend().gemm_library) == "loops") GTEST_SKIP() << "the plain loops add in another order";
  for (const int K : {32, 224, 768}) {
    const QuantizedBlocks w(70, K, 11);
    const TestMatrix x = normal(8, K, 2), weights_f32 = w.weights();
    TestMatrix quantized_result(8, 70), f32_result(8, 70), row_results(8, 70);
    backend().matmul_quantized(stream, {.a = x.view(), .w = w.view(), .c = quantized_result.view()});
    backend().matmul(stream, {.a = x.view(), .b = weights_f32.view(), .c = f32_result.view(), .transpose_b = true});
    for (int m = 0; m < 8; ++m)
      backend().matmul_quantized(
          stream, {.a = x.view().view_rows(m, 1), .w = w.view(), .c = row_results.view().view_rows(m, 1)});
    ASSERT_NO_FATAL_FAILURE(expect_same_bits(quantized_result, f32_result, join("f32, K=", K)));
    ASSERT_NO_FATAL_FAILURE(expect_same_bits(quantized_result, row_results, join("alone, K=", K)));
  }
}

TEST_P(QuantizedTest, Bf16RowsMeetTheExactWeights) {
  const int M = 5, N = 40, K = 96;
  const QuantizedBlocks w(N, K, 13);
  const TestMatrix x = normal(M, K, 3);
  std::vector<Bf16> x_bf16(static_cast<std::size_t>(M * K)), out(static_cast<std::size_t>(M * N));
  TestMatrix x_rounded(M, K);
  for (int m = 0; m < M; ++m)
    for (int k = 0; k < K; ++k) {
      x_bf16[static_cast<std::size_t>(m * K + k)] = to_bf16(x.row(m)[k]);
      x_rounded.at(m, k) = to_f32(to_bf16(x.row(m)[k]));
    }
  backend().matmul_quantized(
      stream, {.a = Matrix<Bf16>{x_bf16.data(), M, K, K}, .w = w.view(), .c = Matrix<Bf16>{out.data(), M, N, N}});
  const auto expected = oracle::matmul(x_rounded.to_f64(), w.weights().to_f64(), M, N, K, false, true,
                                       oracle::F64Vector(static_cast<std::size_t>(M * N)));
  for (std::size_t i = 0; i < out.size(); ++i)
    ASSERT_NEAR(to_f32(out[i]), expected[i], 0x1p-8 * std::max(0.1, std::abs(expected[i]))) << i;
}

TEST_P(QuantizedTest, DequantizeIsExact) {
  const QuantizedBlocks w(17, 96, 17);
  TestMatrix out(17, 96);
  backend().dequantize(stream, {w.view(), out.view()});
  expect_same_bits(out, w.weights(), "dequantize");
  EXPECT_TRUE(out.padding_is_nan());
}

TEST_P(QuantizedTest, RefusesShapesThatDisagree) {
  const QuantizedBlocks w(4, 32, 19);
  const TestMatrix x = normal(2, 64, 4);
  TestMatrix c(2, 4);
  EXPECT_THROW(backend().matmul_quantized(stream, {.a = x.view(), .w = w.view(), .c = c.view()}), Error);
  EXPECT_THROW(backend().dequantize(stream, {w.view(), c.view()}), Error);
}

INSTANTIATE_TEST_SUITE_P(EveryBackend, QuantizedTest, every_backend(), backend_name);

}  // namespace
}  // namespace slipway
