#include "kernels/body/gelu.hpp"

#include "kernels/checks.hpp"
#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/parallel.hpp"

namespace slipway::cpu {

void gelu(Stream& stream, const Gelu& op) {
  check(op);
  dispatch_dtype(op.y_RF.dtype, [&]<class A>(Type<A>) {
    for_each_row(stream, op.y_RF.rows, op.y_RF.cols, [&](int r) { body::gelu<A>(SerialTeam{}, op, r); });
  });
}

void gelu_grad(Stream& stream, const GeluGrad& op) {
  check(op);
  const int rows = op.dy_RF.rows, cols = op.dy_RF.cols;
  dispatch_dtype(op.dy_RF.dtype, [&]<class A>(Type<A>) {
    if (op.y_RF.data == nullptr)
      return for_each_row(stream, rows, cols, [&](int r) { body::gelu_grad<A, false>(SerialTeam{}, op, r); });
    for_each_row(stream, rows, cols, [&](int r) { body::gelu_grad<A, true>(SerialTeam{}, op, r); });
  });
}

}  // namespace slipway::cpu
