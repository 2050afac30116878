#include "kernels/body/rms_norm.hpp"

#include "kernels/cpu/checks.hpp"
#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/sum_rows.hpp"

namespace slipway::cpu {

void rms_norm(Stream&, const RmsNorm& op) {
  require_same_shape("rms_norm", op.x_RD, op.y_RD);
  require(op.x_RD.cols >= 1 && op.eps > 0, "rms_norm: needs at least one column and a positive eps");
  each_row(op.x_RD.rows, op.x_RD.cols, [&](int r) { body::rms_norm(SerialTeam{}, op, r); });
}

void rms_norm_grad(Stream&, const RmsNormGrad& op) {
  require_same_shape("rms_norm_grad", op.x_RD, op.dy_RD);
  require_same_shape("rms_norm_grad", op.x_RD, op.dx_RD);
  require(op.x_RD.cols >= 1 && op.eps > 0, "rms_norm_grad: needs at least one column and a positive eps");
  require(!op.accumulate_dx || op.x_RD.rows == 0 || op.dx_RD.data != op.dy_RD.data,
          "rms_norm_grad: dx is dy, so it cannot accumulate");
  sum_rows(op.x_RD.rows, op.x_RD.cols, op.dgain_D,
           [&](int r, float* dgain_D) { body::rms_norm_grad(SerialTeam{}, op, r, dgain_D); });
}

}  // namespace slipway::cpu
