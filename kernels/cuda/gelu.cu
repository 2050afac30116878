#include "kernels/body/gelu.hpp"

#include "kernels/checks.hpp"
#include "kernels/cuda/ops.cuh"
#include "kernels/cuda/rows.cuh"

namespace slipway::cuda {
namespace {

template <class A>
struct GeluRow {
  Gelu op;
  template <class T>
  __device__ void operator()(const T& team, int r) const {
    body::gelu<A>(team, op, r);
  }
};

template <class A, bool kRecompute>
struct GeluGradRow {
  GeluGrad op;
  template <class T>
  __device__ void operator()(const T& team, int r) const {
    body::gelu_grad<A, kRecompute>(team, op, r);
  }
};

}  // namespace

void gelu(Stream& stream, const Gelu& op) {
  check(op);
  dispatch_dtype(op.y_RF.dtype,
                 [&]<class A>(Type<A>) { for_each_row("gelu", stream, op.y_RF.rows, op.y_RF.cols, GeluRow<A>{op}); });
}

void gelu_grad(Stream& stream, const GeluGrad& op) {
  check(op);
  const int rows = op.dy_RF.rows, cols = op.dy_RF.cols;
  dispatch_dtype(op.dy_RF.dtype, [&]<class A>(Type<A>) {
    if (op.y_RF.data == nullptr) return for_each_row("gelu_grad", stream, rows, cols, GeluGradRow<A, false>{op});
    for_each_row("gelu_grad", stream, rows, cols, GeluGradRow<A, true>{op});
  });
}

}  // namespace slipway::cuda
