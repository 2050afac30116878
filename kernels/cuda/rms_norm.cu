#include "kernels/body/rms_norm.hpp"

#include "kernels/checks.hpp"
#include "kernels/cuda/ops.cuh"
#include "kernels/cuda/rows.cuh"

namespace slipway::cuda {
namespace {

template <class X, class Y>
struct NormRow {
  RmsNorm op;
  template <class T>
  __device__ void operator()(const T& team, int v) const {
    body::rms_norm<X, Y>(team, op, v);
  }
};

template <class A>
struct NormGradRow {
  RmsNormGrad op;
  template <class T>
  __device__ void operator()(const T& team, int v, float* dgain_D) const {
    body::rms_norm_grad<A>(team, op, v, dgain_D);
  }
};

}  // namespace

void rms_norm(Stream& stream, const RmsNorm& op) {
  check(op);
  const int vectors = op.x_RD.rows * op.groups, D = op.x_RD.cols / op.groups;
  dispatch_dtype(op.y_RD.dtype, [&]<class Y>(Type<Y>) {
    if (op.x_RD.dtype == op.y_RD.dtype) return for_each_row("rms_norm", stream, vectors, D, NormRow<Y, Y>{op});
    for_each_row("rms_norm", stream, vectors, D, NormRow<float, Y>{op});
  });
}

void rms_norm_grad(Stream& stream, const RmsNormGrad& op) {
  check(op);
  dispatch_dtype(op.x_RD.dtype, [&]<class A>(Type<A>) {
    sum_rows("rms_norm_grad", stream, op.x_RD.rows * op.groups, op.x_RD.cols / op.groups, {op.dgain_D},
             NormGradRow<A>{op});
  });
}

}  // namespace slipway::cuda
