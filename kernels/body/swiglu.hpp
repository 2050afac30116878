// Formulas of kernels/swiglu.hpp, for one row.
#pragma once

#include "kernels/body/exp.hpp"
#include "kernels/swiglu.hpp"

namespace slipway::body {

template <class A, Team T>
SLIPWAY_HD void swiglu(const T& team, const Swiglu& op, int r) {
  const A* gate_F = op.gate_RF.row<A>(r);
  const A* up_F = op.up_RF.row<A>(r);
  A* y_F = op.y_RF.row<A>(r);
  team.for_each(
      op.y_RF.cols, [](float z, float up, float& y) { y = z * sigmoid(z) * up; }, gate_F, up_F, write_only(y_F));
}

template <class A, bool kRecompute, Team T>
SLIPWAY_HD void swiglu_grad(const T& team, const SwigluGrad& op, int r) {
  const A* gate_F = op.gate_RF.row<A>(r);
  const A* up_F = op.up_RF.row<A>(r);
  const A* dy_F = op.dy_RF.row<A>(r);
  A* dgate_F = op.dgate_RF.row<A>(r);
  A* dup_F = op.dup_RF.row<A>(r);
  const auto column = [](float z, float u, float dy, float& dgate, float& dup) {
    const float s = sigmoid(z);
    dup = dy * z * s;
    dgate = dy * u * s * (1.0f + z * (1.0f - s));
    return z * s * u;
  };
  if constexpr (kRecompute) {
    const auto grad_and_output = [=](float z, float u, float dy, float& dgate, float& dup, float& y) {
      y = column(z, u, dy, dgate, dup);
    };
    team.for_each(op.dy_RF.cols, grad_and_output, gate_F, up_F, dy_F, write_only(dgate_F), write_only(dup_F),
                  write_only(op.y_RF.row<A>(r)));
  } else {
    const auto grad_only = [=](float z, float u, float dy, float& dgate, float& dup) { column(z, u, dy, dgate, dup); };
    team.for_each(op.dy_RF.cols, grad_only, gate_F, up_F, dy_F, write_only(dgate_F), write_only(dup_F));
  }
}

}  // namespace slipway::body
