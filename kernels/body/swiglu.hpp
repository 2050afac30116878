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
  team.each(op.y_RF.cols, [=](int f) {
    const float z = to_f32(gate_F[f]);
    y_F[f] = narrowed<A>(z * sigmoid(z) * to_f32(up_F[f]));
  });
}

template <class A, bool kAgain, Team T>
SLIPWAY_HD void swiglu_grad(const T& team, const SwigluGrad& op, int r) {
  const A* gate_F = op.gate_RF.row<A>(r);
  const A* up_F = op.up_RF.row<A>(r);
  const A* dy_F = op.dy_RF.row<A>(r);
  A* dgate_F = op.dgate_RF.row<A>(r);
  A* dup_F = op.dup_RF.row<A>(r);
  A* y_F = kAgain ? op.y_RF.row<A>(r) : nullptr;
  team.each(op.dy_RF.cols, [=](int f) {
    // Read first: the gradients may take their place.
    const float z = to_f32(gate_F[f]), u = to_f32(up_F[f]), dy = to_f32(dy_F[f]);
    const float s = sigmoid(z);
    if constexpr (kAgain) y_F[f] = narrowed<A>(z * s * u);
    dup_F[f] = narrowed<A>(dy * z * s);
    dgate_F[f] = narrowed<A>(dy * u * s * (1.0f + z * (1.0f - s)));
  });
}

}  // namespace slipway::body
