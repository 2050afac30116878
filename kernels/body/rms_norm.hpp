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

  const float sum_sq = team.sum(
      D, [](float x) { return x * x; }, x_D);
  const float inv_rms = 1.0f / sqrtf(sum_sq / static_cast<float>(D) + op.eps);
  team.each(
      D, [=](float x, float gain, float& y) { y = x * inv_rms * gain; }, x_D, gain_D, written(y_D));
}

/// The vector's dx, and its share of dgain added to `dgain_D` (the sum of its block of rows).
template <class A, Team T>
SLIPWAY_HD void rms_norm_grad(const T& team, const RmsNormGrad& op, int v, float* dgain_D) {
  const int D = op.x_RD.cols / op.parts, r = v / op.parts, first = v % op.parts * D;
  const A* x_D = op.x_RD.row<A>(r) + first;
  const float* gain_D = op.gain_D;
  const A* dy_D = op.dy_RD.row<A>(r) + first;
  A* dx_D = op.dx_RD.row<A>(r) + first;

  const SumPair sums = team.sum(
      D,
      [](float x, float dy, float gain) {
        return SumPair{x * x, dy * gain * x};
      },
      x_D, dy_D, gain_D);
  const float inv_rms = 1.0f / sqrtf(sums.first / static_cast<float>(D) + op.eps);
  const float back = sums.second / static_cast<float>(D) * inv_rms * inv_rms;  // mean(dy gain x) / ms

  const auto column = [=](float x, float dy, float gain, float& dgain) {
    dgain += dy * x * inv_rms;
    return (dy * gain - x * back) * inv_rms;
  };
  if (op.dx_bf16_RD.data != nullptr) {
    const bool accumulate = op.accumulate_dx;
    const auto with_copy = [=](float x, float dy, float gain, float& dgain, float& dx, float& narrow) {
      const float added = column(x, dy, gain, dgain);
      dx = narrow = accumulate ? dx + added : added;
    };
    return team.each(D, with_copy, x_D, dy_D, gain_D, dgain_D, dx_D, written(op.dx_bf16_RD.row(r) + first));
  }
  if (!op.accumulate_dx) {
    const auto replace = [=](float x, float dy, float gain, float& dgain, float& dx) {
      dx = column(x, dy, gain, dgain);
    };
    return team.each(D, replace, x_D, dy_D, gain_D, dgain_D, written(dx_D));
  }
  const auto add = [=](float x, float dy, float gain, float& dgain, float& dx) { dx += column(x, dy, gain, dgain); };
  team.each(D, add, x_D, dy_D, gain_D, dgain_D, dx_D);
}

}  // namespace slipway::body
