#include "kernels/body/layer_norm.hpp"

#include "kernels/checks.hpp"
#include "kernels/cuda/ops.cuh"
#include "kernels/cuda/rows.cuh"

namespace slipway::cuda {
namespace {

template <class X, class Y>
struct LayerNormRow {
  LayerNorm op;
  template <class T>
  __device__ void operator()(const T& team, int r) const {
    body::layer_norm<X, Y>(team, op, r);
  }
};

template <class A>
struct LayerNormGradRow {
  LayerNormGrad op;
  template <class T>
  __device__ void operator()(const T& team, int r, float* dgain_D) const {
    body::layer_norm_grad<A>(team, op, r, dgain_D);
  }
};

}  // namespace

void layer_norm(Stream& stream, const LayerNorm& op) {
  check(op);
  const int rows = op.x_RD.rows, D = op.x_RD.cols;
  dispatch_dtype(op.y_RD.dtype, [&]<class Y>(Type<Y>) {
    if (op.x_RD.dtype == op.y_RD.dtype) return for_each_row("layer_norm", stream, rows, D, LayerNormRow<Y, Y>{op});
    for_each_row("layer_norm", stream, rows, D, LayerNormRow<float, Y>{op});
  });
}

void layer_norm_grad(Stream& stream, const LayerNormGrad& op) {
  check(op);
  dispatch_dtype(op.x_RD.dtype, [&]<class A>(Type<A>) {
    sum_rows<2>("layer_norm_grad", stream, op.x_RD.rows, op.x_RD.cols, {op.dgain_D, op.dbias_D},
                LayerNormGradRow<A>{op});
  });
}

}  // namespace slipway::cuda
