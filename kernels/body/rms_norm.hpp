// Formulas of kernels/rms_norm.hpp, for one row.
#pragma once

#include <cmath>

#include "kernels/rms_norm.hpp"
#include "kernels/team.hpp"

namespace slipway::body {

template <Team T>
SLIPWAY_HD void rms_norm(const T& team, const RmsNorm& op, int r) {
  const float* x_D = op.x_RD.row(r);
  const float* gain_D = op.gain_D;
  float* y_D = op.y_RD.row(r);
  const int D = op.x_RD.cols;

  const float sum_sq = team.sum(D, [=](int d) { return x_D[d] * x_D[d]; });
  const float inv_rms = 1.0f / sqrtf(sum_sq / static_cast<float>(D) + op.eps);
  team.each(D, [=](int d) { y_D[d] = x_D[d] * inv_rms * gain_D[d]; });
}

/// The row's dx, and its share of dgain added to `dgain_D` (the sum of its block of rows).
template <Team T>
SLIPWAY_HD void rms_norm_grad(const T& team, const RmsNormGrad& op, int r, float* dgain_D) {
  const float* x_D = op.x_RD.row(r);
  const float* gain_D = op.gain_D;
  const float* dy_D = op.dy_RD.row(r);
  float* dx_D = op.dx_RD.row(r);
  const int D = op.x_RD.cols;

  const float sum_sq = team.sum(D, [=](int d) { return x_D[d] * x_D[d]; });
  const float inv_rms = 1.0f / sqrtf(sum_sq / static_cast<float>(D) + op.eps);
  const float sum_dy_x = team.sum(D, [=](int d) { return dy_D[d] * gain_D[d] * x_D[d]; });
  const float back = sum_dy_x / static_cast<float>(D) * inv_rms * inv_rms;  // mean(dy gain x) / ms

  team.each(D, [=](int d) { dgain_D[d] += dy_D[d] * x_D[d] * inv_rms; });  // before dx, which may overwrite dy
  if (op.accumulate_dx) {
    team.each(D, [=](int d) { dx_D[d] += (dy_D[d] * gain_D[d] - x_D[d] * back) * inv_rms; });
  } else {
    team.each(D, [=](int d) { dx_D[d] = (dy_D[d] * gain_D[d] - x_D[d] * back) * inv_rms; });
  }
}

}  // namespace slipway::body
