#include "kernels/body/swiglu.hpp"

#include "kernels/cpu/checks.hpp"
#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/parallel.hpp"

namespace slipway::cpu {

void swiglu(Stream&, const Swiglu& op) {
  require_alike("swiglu", op.gate_RF, op.up_RF);
  require_alike("swiglu", op.gate_RF, op.y_RF);
  by_type(op.y_RF.dtype, [&]<class A>(Type<A>) {
    each_row(op.y_RF.rows, op.y_RF.cols, [&](int r) { body::swiglu<A>(SerialTeam{}, op, r); });
  });
}

void swiglu_grad(Stream&, const SwigluGrad& op) {
  require_alike("swiglu_grad", op.gate_RF, op.up_RF);
  require_alike("swiglu_grad", op.gate_RF, op.dy_RF);
  require_alike("swiglu_grad", op.gate_RF, op.dgate_RF);
  require_alike("swiglu_grad", op.gate_RF, op.dup_RF);
  by_type(op.dy_RF.dtype, [&]<class A>(Type<A>) {
    if (op.y_RF.data == nullptr)
      return each_row(op.dy_RF.rows, op.dy_RF.cols, [&](int r) { body::swiglu_grad<A, false>(SerialTeam{}, op, r); });
    require_alike("swiglu_grad", op.gate_RF, op.y_RF);
    each_row(op.dy_RF.rows, op.dy_RF.cols, [&](int r) { body::swiglu_grad<A, true>(SerialTeam{}, op, r); });
  });
}

}  // namespace slipway::cpu
