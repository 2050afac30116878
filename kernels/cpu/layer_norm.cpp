#include "kernels/body/layer_norm.hpp"

#include "kernels/checks.hpp"
#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/sum_rows.hpp"

namespace slipway::cpu {

void layer_norm(Stream& stream, const LayerNorm& op) {
  check(op);
  const int rows = op.x_RD.rows, D = op.x_RD.cols;
  dispatch_dtype(op.y_RD.dtype, [&]<class Y>(Type<Y>) {
    if (op.x_RD.dtype == op.y_RD.dtype)
      return for_each_row(stream, rows, D, [&](int r) { body::layer_norm<Y, Y>(SerialTeam{}, op, r); });
    for_each_row(stream, rows, D, [&](int r) { body::layer_norm<float, Y>(SerialTeam{}, op, r); });
  });
}

void layer_norm_grad(Stream& stream, const LayerNormGrad& op) {
  check(op);
  dispatch_dtype(op.x_RD.dtype, [&]<class A>(Type<A>) {
    sum_rows<2>(stream, op.x_RD.rows, op.x_RD.cols, {op.dgain_D, op.dbias_D},
                [&](int r, float* dgain_D) { body::layer_norm_grad<A>(SerialTeam{}, op, r, dgain_D); });
  });
}

}  // namespace slipway::cpu
