// Matmul by plain loops: the reference for all other matmuls, and the fallback in builds without oneDNN.
#include <algorithm>
#include <vector>

#include "kernels/checks.hpp"
#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/parallel.hpp"

namespace slipway::cpu {
namespace {

/// One row of c, in f32. Sums run over k in order.
template <class T>
void multiply_row(const MatMul& op, const GemmShape& shape, int m, float* c_N) {
  const T* a = static_cast<const T*>(op.a.data);
  const T* b = static_cast<const T*>(op.b.data);

  const std::int64_t a_step = op.transpose_a ? op.a.stride : 1;
  const T* a_K = a + (op.transpose_a ? m : m * op.a.stride);
  if (op.transpose_b) {
    for (int n = 0; n < shape.N; ++n) {
      const T* b_K = b + n * op.b.stride;
      c_N[n] += SerialTeam{}.sum(shape.K, [=](int k) { return to_f32(a_K[k * a_step]) * to_f32(b_K[k]); });
    }
    return;
  }
  for (int k = 0; k < shape.K; ++k) {
    const T* b_N = b + k * op.b.stride;
    const float factor = to_f32(a_K[k * a_step]);
    SerialTeam{}.for_each(shape.N, [=](int n) { c_N[n] += factor * to_f32(b_N[n]); });
  }
}

}  // namespace

void matmul_loops(Stream& stream, const MatMul& op) {
  const GemmShape shape = check(op);
  const int cost = static_cast<int>(std::min(std::int64_t{shape.N} * shape.K, std::int64_t{1} << 30));
  dispatch_dtype(op.a.dtype, [&]<class T>(Type<T>) {
    for_each_row(stream, shape.M, cost, [&](int m) {
      if (op.c.dtype == DType::kF32) {
        if (op.residual.data != nullptr) std::copy_n(op.residual.row(m), shape.N, op.c.row<float>(m));
        else if (!op.accumulate) std::fill_n(op.c.row<float>(m), shape.N, 0.0f);
        return multiply_row<T>(op, shape, m, op.c.row<float>(m));
      }
      std::vector<float> sums_N(static_cast<std::size_t>(shape.N));
      multiply_row<T>(op, shape, m, sums_N.data());
      std::ranges::transform(sums_N, op.c.row<Bf16>(m), [](float sum) { return slipway::to_bf16(sum); });
    });
  });
}

#if !defined(SLIPWAY_ONEDNN)
void matmul_general(Stream& stream, const MatMul& op) { matmul_loops(stream, op); }
#endif

}  // namespace slipway::cpu
