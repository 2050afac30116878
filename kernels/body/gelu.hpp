// Formulas of kernels/gelu.hpp, for one row.
#pragma once

#include "kernels/body/exp.hpp"
#include "kernels/gelu.hpp"

namespace slipway::body {

// The argument of the sigmoid is 2 u(x) = x (kGeluLinear + kGeluCubic x^2), since 0.5 (1 + tanh(u)) = sigmoid(2 u).
inline constexpr float kGeluLinear = 1.5957691216f;  // 2 sqrt(2 / pi)
inline constexpr float kGeluCubic = 0.0713548163f;   // ... times 0.044715, which Hendrycks and Gimpel fitted

template <class A, Team T>
SLIPWAY_HD void gelu(const T& team, const Gelu& op, int r) {
  const A* x_F = op.x_RF.row<A>(r);
  A* y_F = op.y_RF.row<A>(r);
  const auto column = [](float x, float& y) { y = x * sigmoid(x * fmadd(kGeluCubic, x * x, kGeluLinear)); };
  team.for_each(op.y_RF.cols, column, x_F, write_only(y_F));
}

template <class A, bool kRecompute, Team T>
SLIPWAY_HD void gelu_grad(const T& team, const GeluGrad& op, int r) {
  const A* x_F = op.x_RF.row<A>(r);
  const A* dy_F = op.dy_RF.row<A>(r);
  A* dx_F = op.dx_RF.row<A>(r);
  const auto column = [](float x, float dy, float& dx) {
    const float s = sigmoid(x * fmadd(kGeluCubic, x * x, kGeluLinear));
    const float slope = fmadd(3.0f * kGeluCubic, x * x, kGeluLinear);  // 2 u'
    dx = dy * (s + x * s * (1.0f - s) * slope);
    return x * s;
  };
  if constexpr (kRecompute) {
    const auto grad_and_output = [=](float x, float dy, float& dx, float& y) { y = column(x, dy, dx); };
    team.for_each(op.dy_RF.cols, grad_and_output, x_F, dy_F, write_only(dx_F), write_only(op.y_RF.row<A>(r)));
  } else {
    const auto grad_only = [=](float x, float dy, float& dx) { column(x, dy, dx); };
    team.for_each(op.dy_RF.cols, grad_only, x_F, dy_F, write_only(dx_F));
  }
}

}  // namespace slipway::body
