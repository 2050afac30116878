#include "kernels/body/swiglu.hpp"

#include "kernels/checks.hpp"
#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/parallel.hpp"

namespace slipway::cpu {

void swiglu(Stream& stream, const Swiglu& op) {
  check(op);
  dispatch_dtype(op.y_RF.dtype, [&]<class A>(Type<A>) {
    for_each_row(stream, op.y_RF.rows, op.y_RF.cols, [&](int r) { body::swiglu<A>(SerialTeam{}, op, r); });
  });
}

void swiglu_grad(Stream& stream, const SwigluGrad& op) {
  check(op);
  dispatch_dtype(op.dy_RF.dtype, [&]<class A>(Type<A>) {
    if (op.y_RF.data == nullptr)
      return for_each_row(stream, op.dy_RF.rows, op.dy_RF.cols,
                          [&](int r) { body::swiglu_grad<A, false>(SerialTeam{}, op, r); });
    for_each_row(stream, op.dy_RF.rows, op.dy_RF.cols, [&](int r) { body::swiglu_grad<A, true>(SerialTeam{}, op, r); });
  });
}

}  // namespace slipway::cpu
