// Products `x W^T` with few rows in x, as decoding has them. They take as long as reading W does, so W is read once, as
// it is stored (bf16 is widened in registers), and each element is a dot product whose order of sums depends on K
// alone: a sequence decoded in a batch gives the bits that it gives by itself.
#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/parallel.hpp"
#include "kernels/cpu/vector.hpp"

namespace slipway::cpu {
namespace {

/// Rows of x and of W whose dot products run side by side: with a vector of each of these, 13 of AVX2's 16 registers.
constexpr int kXRows = 2;
constexpr int kWRows = 4;

/// `c[i, j] (+)= x[i] . w[j]` for kI rows of x and kJ rows of W.
template <int kI, int kJ, class T>
void dots(int K, const T* x, std::int64_t x_stride, const T* w, std::int64_t w_stride, const Activation& c,
          bool accumulate) {
  Vector sum[kI][kJ] = {};
  int k = 0;
  for (; k + kLanes <= K; k += kLanes) {
    Vector w_k[kJ];
#pragma GCC unroll 4
    for (int j = 0; j < kJ; ++j) w_k[j] = load_wide(w + j * w_stride + k);
#pragma GCC unroll 4
    for (int i = 0; i < kI; ++i) {
      const Vector x_k = load_wide(x + i * x_stride + k);
#pragma GCC unroll 4
      for (int j = 0; j < kJ; ++j) sum[i][j] = multiply_add(x_k, w_k[j], sum[i][j]);
    }
  }
  for (int i = 0; i < kI; ++i)
    for (int j = 0; j < kJ; ++j) {
      float total = 0.0f;
      for (int lane = 0; lane < kLanes; ++lane) total += sum[i][j][lane];
      for (int rest = k; rest < K; ++rest) total += to_f32(x[i * x_stride + rest]) * to_f32(w[j * w_stride + rest]);
      if (c.dtype == DType::kBf16) {
        c.row<Bf16>(i)[j] = slipway::to_bf16(total);
      } else {
        float& element = c.row<float>(i)[j];
        element = accumulate ? element + total : total;
      }
    }
}

/// The columns [first, first + count) of c.
template <class T>
void columns(const MatMul& op, const ProductShape& shape, int first, int count) {
  const T* x = static_cast<const T*>(op.a.data);
  const T* w = static_cast<const T*>(op.b.data);
  const auto rows = [&]<int kJ>(std::integral_constant<int, kJ>, int n) {
    const T* w_n = w + n * op.b.stride;
    int m = 0;
    const auto step = [&]<int kI>(std::integral_constant<int, kI>) {
      dots<kI, kJ>(shape.K, x + m * op.a.stride, op.a.stride, w_n, op.b.stride, op.c.view_rows(m, kI).view_cols(n, kJ),
                   op.accumulate);
      m += kI;
    };
    while (m + kXRows <= shape.M) step(std::integral_constant<int, kXRows>{});
    while (m < shape.M) step(std::integral_constant<int, 1>{});
  };
  int n = first;
  for (; n + kWRows <= first + count; n += kWRows) rows(std::integral_constant<int, kWRows>{}, n);
  for (; n < first + count; ++n) rows(std::integral_constant<int, 1>{}, n);
}

}  // namespace

bool has_few_rows(const MatMul& op, const ProductShape& shape) {
  constexpr int kFew = 8;  // where oneDNN's general product, which first copies W, catches up
  return shape.M <= kFew && !op.transpose_a && op.transpose_b;
}

void matmul_few_rows(const MatMul& op, const ProductShape& shape) {
  constexpr std::size_t kColumns = 32;
  each_block(static_cast<std::size_t>(shape.N), kColumns, std::int64_t{shape.K} * shape.M,
             [&](std::int64_t, std::size_t first, int count) {
               if (op.a.dtype == DType::kBf16) return columns<Bf16>(op, shape, static_cast<int>(first), count);
               columns<float>(op, shape, static_cast<int>(first), count);
             });
}

}  // namespace slipway::cpu
