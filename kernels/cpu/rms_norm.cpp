#include "kernels/body/rms_norm.hpp"

#include "kernels/cpu/checks.hpp"
#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/sum_rows.hpp"

namespace slipway::cpu {
namespace {

void check_parts(const char* op, const Operand& x_RD, int parts, float eps) {
  require(parts >= 1 && x_RD.cols >= parts && x_RD.cols % parts == 0 && eps > 0,
          join(op, ": needs a column at least, whole parts and a positive eps"));
}

}  // namespace

void rms_norm(Stream&, const RmsNorm& op) {
  require_same_shape("rms_norm", op.x_RD, op.y_RD);
  check_parts("rms_norm", op.x_RD, op.parts, op.eps);
  require(op.x_RD.dtype == DType::kF32 || op.x_RD.dtype == op.y_RD.dtype, "rms_norm: a bf16 x has a bf16 y");
  const int vectors = op.x_RD.rows * op.parts, D = op.x_RD.cols / op.parts;
  by_type(op.y_RD.dtype, [&]<class Y>(Type<Y>) {
    if (op.x_RD.dtype == op.y_RD.dtype)
      return each_row(vectors, D, [&](int v) { body::rms_norm<Y, Y>(SerialTeam{}, op, v); });
    each_row(vectors, D, [&](int v) { body::rms_norm<float, Y>(SerialTeam{}, op, v); });
  });
}

void rms_norm_grad(Stream&, const RmsNormGrad& op) {
  require_alike("rms_norm_grad", op.x_RD, op.dy_RD);
  require_alike("rms_norm_grad", op.x_RD, op.dx_RD);
  check_parts("rms_norm_grad", op.x_RD, op.parts, op.eps);
  require(!op.accumulate_dx || op.x_RD.rows == 0 || op.dx_RD.data != op.dy_RD.data,
          "rms_norm_grad: dx is dy, so it cannot accumulate");
  by_type(op.x_RD.dtype, [&]<class A>(Type<A>) {
    sum_rows(op.x_RD.rows * op.parts, op.x_RD.cols / op.parts, op.dgain_D,
             [&](int v, float* dgain_D) { body::rms_norm_grad<A>(SerialTeam{}, op, v, dgain_D); });
  });
}

}  // namespace slipway::cpu
