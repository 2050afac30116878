// Formulas of kernels/rms_norm.hpp, for one part of a row: vector v is part v % groups of row v / groups.
#pragma once

#include <cmath>

#include "kernels/body/norm_grad.hpp"
#include "kernels/rms_norm.hpp"

namespace slipway::body {

template <class X, class Y, Team T>
SLIPWAY_HD void rms_norm(const T& team, const RmsNorm& op, int v) {
  const int D = op.x_RD.cols / op.groups, r = v / op.groups, first = v % op.groups * D;
  const X* x_D = op.x_RD.row<X>(r) + first;
  const float* gain_D = op.gain_D;
  Y* y_D = op.y_RD.row<Y>(r) + first;

  const float sum_sq = team.sum(
      D, [](float x) { return x * x; }, x_D);
  const float inv_rms = 1.0f / sqrtf(sum_sq / static_cast<float>(D) + op.eps);
  team.for_each(
      D, [=](float x, float gain, float& y) { y = x * inv_rms * gain; }, x_D, gain_D, write_only(y_D));
}

/// Writes the vector's dx, and adds its dgain to `dgain_D` (the sum of its block of rows).
template <class A, Team T>
SLIPWAY_HD void rms_norm_grad(const T& team, const RmsNormGrad& op, int v, float* dgain_D) {
  const int D = op.x_RD.cols / op.groups, r = v / op.groups, first = v % op.groups * D;
  const A* x_D = op.x_RD.row<A>(r) + first;
  const float* gain_D = op.gain_D;
  const A* dy_D = op.dy_RD.row<A>(r) + first;

  const SumPair sums = team.sum(
      D,
      [](float x, float dy, float gain) {
        return SumPair{x * x, dy * gain * x};
      },
      x_D, dy_D, gain_D);
  const float inv_rms = 1.0f / sqrtf(sums.first / static_cast<float>(D) + op.eps);
  const float projection = sums.second / static_cast<float>(D) * inv_rms * inv_rms;  // mean(dy gain x) / ms

  const auto column = [=](float x, float dy, float gain, float& dgain) {
    dgain += dy * x * inv_rms;
    return (dy * gain - x * projection) * inv_rms;
  };
  write_norm_grad<A>(team, op, r, first, D, column, dgain_D);
}

}  // namespace slipway::body
