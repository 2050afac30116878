// Writes the gradient of a normalization: the part that RmsNormGrad and LayerNormGrad share.
#pragma once

#include "kernels/team.hpp"

namespace slipway::body {

/// `dx = column(x, dy, gain, sums...)`, or `dx += ...`, for D columns of row r from `first` on, with a bf16 copy where
/// the op has dx_bf16. `column` also adds the column's gradients of gain and bias to `sums`.
template <class A, Team T, class Grad, class Column, class... Sums>
SLIPWAY_HD void write_norm_grad(const T& team, const Grad& op, int r, int first, int D, const Column& column,
                                Sums*... sums_D) {
  const A* x_D = op.x_RD.template row<A>(r) + first;
  const float* gain_D = op.gain_D;
  const A* dy_D = op.dy_RD.template row<A>(r) + first;
  A* dx_D = op.dx_RD.template row<A>(r) + first;

  if (op.dx_bf16_RD.data != nullptr) {
    const bool accumulate = op.accumulate_dx;
    const auto with_copy = [=](float x, float dy, float gain, Sums&... sums, float& dx, float& dx_bf16) {
      const float grad = column(x, dy, gain, sums...);
      dx = dx_bf16 = accumulate ? dx + grad : grad;
    };
    return team.for_each(D, with_copy, x_D, dy_D, gain_D, sums_D..., dx_D, write_only(op.dx_bf16_RD.row(r) + first));
  }
  if (!op.accumulate_dx) {
    const auto replace = [=](float x, float dy, float gain, Sums&... sums, float& dx) {
      dx = column(x, dy, gain, sums...);
    };
    return team.for_each(D, replace, x_D, dy_D, gain_D, sums_D..., write_only(dx_D));
  }
  const auto add = [=](float x, float dy, float gain, Sums&... sums, float& dx) { dx += column(x, dy, gain, sums...); };
  team.for_each(D, add, x_D, dy_D, gain_D, sums_D..., dx_D);
}

}  // namespace slipway::body
