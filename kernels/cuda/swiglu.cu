#include "kernels/body/swiglu.hpp"

#include "kernels/checks.hpp"
#include "kernels/cuda/ops.cuh"
#include "kernels/cuda/rows.cuh"

namespace slipway::cuda {
namespace {

template <class A>
struct SwigluRow {
  Swiglu op;
  template <class T>
  __device__ void operator()(const T& team, int r) const {
    body::swiglu<A>(team, op, r);
  }
};

template <class A, bool kRecompute>
struct SwigluGradRow {
  SwigluGrad op;
  template <class T>
  __device__ void operator()(const T& team, int r) const {
    body::swiglu_grad<A, kRecompute>(team, op, r);
  }
};

}  // namespace

void swiglu(Stream& stream, const Swiglu& op) {
  check(op);
  dispatch_dtype(op.y_RF.dtype, [&]<class A>(Type<A>) {
    for_each_row("swiglu", stream, op.y_RF.rows, op.y_RF.cols, SwigluRow<A>{op});
  });
}

void swiglu_grad(Stream& stream, const SwigluGrad& op) {
  check(op);
  const int rows = op.dy_RF.rows, cols = op.dy_RF.cols;
  dispatch_dtype(op.dy_RF.dtype, [&]<class A>(Type<A>) {
    if (op.y_RF.data == nullptr) return for_each_row("swiglu_grad", stream, rows, cols, SwigluGradRow<A, false>{op});
    for_each_row("swiglu_grad", stream, rows, cols, SwigluGradRow<A, true>{op});
  });
}

}  // namespace slipway::cuda
