// Formulas of kernels/swiglu.hpp, for one row.
#pragma once

#include "kernels/body/exp.hpp"
#include "kernels/swiglu.hpp"

namespace slipway::body {

template <Team T>
SLIPWAY_HD void swiglu(const T& team, const Swiglu& op, int r) {
  const float* gate_F = op.gate_RF.row(r);
  const float* up_F = op.up_RF.row(r);
  float* y_F = op.y_RF.row(r);
  team.each(op.y_RF.cols, [=](int f) { y_F[f] = gate_F[f] * sigmoid(gate_F[f]) * up_F[f]; });
}

template <Team T>
SLIPWAY_HD void swiglu_grad(const T& team, const SwigluGrad& op, int r) {
  const float* gate_F = op.gate_RF.row(r);
  const float* up_F = op.up_RF.row(r);
  const float* dy_F = op.dy_RF.row(r);
  float* dgate_F = op.dgate_RF.row(r);
  float* dup_F = op.dup_RF.row(r);
  team.each(op.dy_RF.cols, [=](int f) {
    const float z = gate_F[f], u = up_F[f], dy = dy_F[f];  // read first: the gradients may take their place
    const float s = sigmoid(z);
    dup_F[f] = dy * z * s;
    dgate_F[f] = dy * u * s * (1.0f + z * (1.0f - s));
  });
}

}  // namespace slipway::body
