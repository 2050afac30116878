// Formulas of kernels/rms_norm.hpp, for one part of a row: vector v is part v % parts of row v / parts.
#pragma once

#include <cmath>

#include "kernels/rms_norm.hpp"
#include "kernels/team.hpp"

namespace slipway::body {

template <class X, class Y, Team T>
SLIPWAY_HD void rms_norm(const T& team, const RmsNorm& op, int v) {
  const int D = op.x_RD.cols / op.parts, r = v / op.parts, first = v % op.parts * D;
  const X* x_D = op.x_RD.row<X>(r) + first;
  const float* gain_D = op.gain_D;
  Y* y_D = op.y_RD.row<Y>(r) + first;

  const float sum_sq = team.sum(D, [=](int d) { return to_f32(x_D[d]) * to_f32(x_D[d]); });
  const float inv_rms = 1.0f / sqrtf(sum_sq / static_cast<float>(D) + op.eps);
  team.each(D, [=](int d) { y_D[d] = narrowed<Y>(to_f32(x_D[d]) * inv_rms * gain_D[d]); });
}

/// The vector's dx, and its share of dgain added to `dgain_D` (the sum of its block of rows).
template <class A, Team T>
SLIPWAY_HD void rms_norm_grad(const T& team, const RmsNormGrad& op, int v, float* dgain_D) {
  const int D = op.x_RD.cols / op.parts, r = v / op.parts, first = v % op.parts * D;
  const A* x_D = op.x_RD.row<A>(r) + first;
  const float* gain_D = op.gain_D;
  const A* dy_D = op.dy_RD.row<A>(r) + first;
  A* dx_D = op.dx_RD.row<A>(r) + first;

  const float sum_sq = team.sum(D, [=](int d) { return to_f32(x_D[d]) * to_f32(x_D[d]); });
  const float inv_rms = 1.0f / sqrtf(sum_sq / static_cast<float>(D) + op.eps);
  const float sum_dy_x = team.sum(D, [=](int d) { return to_f32(dy_D[d]) * gain_D[d] * to_f32(x_D[d]); });
  const float back = sum_dy_x / static_cast<float>(D) * inv_rms * inv_rms;  // mean(dy gain x) / ms

  team.each(D, [=](int d) {
    dgain_D[d] += to_f32(dy_D[d]) * to_f32(x_D[d]) * inv_rms;
  });  // before dx, which may overwrite dy
  const auto dx_at = [=](int d) { return (to_f32(dy_D[d]) * gain_D[d] - to_f32(x_D[d]) * back) * inv_rms; };
  if (op.accumulate_dx) {
    team.each(D, [=](int d) { dx_D[d] = narrowed<A>(to_f32(dx_D[d]) + dx_at(d)); });
  } else {
    team.each(D, [=](int d) { dx_D[d] = narrowed<A>(dx_at(d)); });
  }
}

}  // namespace slipway::body
