// Matrix products by plain loops: what every other product is compared with, and what runs where oneDNN was left out.
#include <algorithm>

#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/parallel.hpp"

namespace slipway::cpu {
namespace {

inline float widen(float value) { return value; }
inline float widen(Bf16 value) { return to_f32(value); }

/// One row of c. Sums run over k in order.
template <class T>
void row_product(const MatMul& op, const ProductShape& shape, int m) {
  const T* a = static_cast<const T*>(op.a.data);
  const T* b = static_cast<const T*>(op.b.data);
  float* c_N = op.c.row(m);
  if (!op.accumulate) std::fill_n(c_N, shape.N, 0.0f);

  const std::int64_t a_step = op.transpose_a ? op.a.stride : 1;
  const T* a_K = a + (op.transpose_a ? m : m * op.a.stride);
  if (op.transpose_b) {
    for (int n = 0; n < shape.N; ++n) {
      const T* b_K = b + n * op.b.stride;
      c_N[n] += SerialTeam{}.sum(shape.K, [=](int k) { return widen(a_K[k * a_step]) * widen(b_K[k]); });
    }
    return;
  }
  for (int k = 0; k < shape.K; ++k) {
    const T* b_N = b + k * op.b.stride;
    const float factor = widen(a_K[k * a_step]);
    SerialTeam{}.each(shape.N, [=](int n) { c_N[n] += factor * widen(b_N[n]); });
  }
}

}  // namespace

ProductShape check_shapes(const MatMul& op) {
  const int M = op.transpose_a ? op.a.cols : op.a.rows, a_K = op.transpose_a ? op.a.rows : op.a.cols;
  const int N = op.transpose_b ? op.b.rows : op.b.cols, b_K = op.transpose_b ? op.b.cols : op.b.rows;
  if (a_K != b_K || op.c.rows != M || op.c.cols != N)
    throw Error(Fault::kBug, join("matmul: [", M, ", ", a_K, "] times [", b_K, ", ", N, "] cannot give [", op.c.rows,
                                  ", ", op.c.cols, "]"));
  require(op.a.dtype == op.b.dtype, "matmul: the operands differ in element type");
  require(op.a.dtype == DType::kF32 || op.a.dtype == DType::kBf16, "matmul: operands are f32 or bf16");
  return {.M = M, .N = N, .K = a_K};
}

void matmul_loops(Stream&, const MatMul& op) {
  const ProductShape shape = check_shapes(op);
  const bool bf16 = op.a.dtype == DType::kBf16;
  const auto row = [&](int m) { bf16 ? row_product<Bf16>(op, shape, m) : row_product<float>(op, shape, m); };
  each_row(shape.M, static_cast<int>(std::min(std::int64_t{shape.N} * shape.K, std::int64_t{1} << 30)), row);
}

}  // namespace slipway::cpu
