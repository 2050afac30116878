#include "kernels/body/rms_norm.hpp"

#include "kernels/checks.hpp"
#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/sum_rows.hpp"

namespace slipway::cpu {

void rms_norm(Stream& stream, const RmsNorm& op) {
  check(op);
  const int vectors = op.x_RD.rows * op.groups, D = op.x_RD.cols / op.groups;
  dispatch_dtype(op.y_RD.dtype, [&]<class Y>(Type<Y>) {
    if (op.x_RD.dtype == op.y_RD.dtype)
      return for_each_row(stream, vectors, D, [&](int v) { body::rms_norm<Y, Y>(SerialTeam{}, op, v); });
    for_each_row(stream, vectors, D, [&](int v) { body::rms_norm<float, Y>(SerialTeam{}, op, v); });
  });
}

void rms_norm_grad(Stream& stream, const RmsNormGrad& op) {
  check(op);
  dispatch_dtype(op.x_RD.dtype, [&]<class A>(Type<A>) {
    sum_rows(stream, op.x_RD.rows * op.groups, op.x_RD.cols / op.groups, {op.dgain_D},
             [&](int v, float* dgain_D) { body::rms_norm_grad<A>(SerialTeam{}, op, v, dgain_D); });
  });
}

}  // namespace slipway::cpu
