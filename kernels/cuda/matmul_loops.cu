// Matmul by plain loops, one thread per element: the reference for all other matmuls.
#include "kernels/body/exp.hpp"
#include "kernels/checks.hpp"
#include "kernels/cuda/ops.cuh"
#include "kernels/cuda/rows.cuh"

namespace slipway::cuda {
namespace {

/// Element (row, col) of a matrix, or of its transposition.
template <class E>
struct MatrixAccessor {
  const E* data;
  std::int64_t row_step, col_step;
  MatrixAccessor(const ConstTensorView& m, bool transpose)
      : data(static_cast<const E*>(m.data)), row_step(transpose ? 1 : m.stride), col_step(transpose ? m.stride : 1) {}
  __device__ float at(int row, int col) const { return to_f32(data[row * row_step + col * col_step]); }
};

template <class E, class C>
struct MatmulRow {
  MatrixAccessor<E> a, b;
  TensorView c;
  int K;
  Matrix<const float> residual;  // null: none
  template <class T>
  __device__ void operator()(const T& team, int m) const {
    C* c_N = c.row<C>(m);
    team.for_each(c.cols, [=, this](int n) {
      float sum = residual.data == nullptr ? 0.0f : residual.row(m)[n];
      for (int k = 0; k < K; ++k) sum = body::fmadd(a.at(m, k), b.at(k, n), sum);
      c_N[n] = cast_to<C>(sum);
    });
  }
};

}  // namespace

void matmul_loops(Stream& stream, const MatMul& op) {
  const GemmShape shape = check(op);
  dispatch_dtype(op.a.dtype, [&]<class E>(Type<E>) {
    dispatch_dtype(op.c.dtype, [&]<class C>(Type<C>) {
      for_each_row("matmul", stream, shape.M, shape.N,
                   MatmulRow<E, C>{{op.a, op.transpose_a}, {op.b, op.transpose_b}, op.c, shape.K, residual_of(op)});
    });
  });
}

}  // namespace slipway::cuda
