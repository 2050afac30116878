// Formulas of kernels/layer_norm.hpp, for one row.
#pragma once

#include <cmath>

#include "kernels/body/norm_grad.hpp"
#include "kernels/layer_norm.hpp"

namespace slipway::body {

template <class X, class Y, Team T>
SLIPWAY_HD void layer_norm(const T& team, const LayerNorm& op, int r) {
  const int D = op.x_RD.cols;
  const X* x_D = op.x_RD.row<X>(r);
  const float *gain_D = op.gain_D, *bias_D = op.bias_D;
  Y* y_D = op.y_RD.row<Y>(r);

  const float sum = team.sum(
      D, [](float x) { return x; }, x_D);
  const float mean = sum / static_cast<float>(D);
  const float sum_sq = team.sum(
      D, [=](float x) { return (x - mean) * (x - mean); }, x_D);
  const float inv_std = 1.0f / sqrtf(sum_sq / static_cast<float>(D) + op.eps);
  if (bias_D == nullptr)
    return team.each(
        D, [=](float x, float gain, float& y) { y = (x - mean) * inv_std * gain; }, x_D, gain_D, written(y_D));
  team.each(
      D, [=](float x, float gain, float bias, float& y) { y = (x - mean) * inv_std * gain + bias; }, x_D, gain_D,
      bias_D, written(y_D));
}

/// The row's dx, and its shares of dgain and dbias added to the 2 D elements from `dgain_D` on (the sums of its block
/// of rows).
template <class A, Team T>
SLIPWAY_HD void layer_norm_grad(const T& team, const LayerNormGrad& op, int r, float* dgain_D) {
  const int D = op.x_RD.cols;
  const A* x_D = op.x_RD.row<A>(r);
  const float* gain_D = op.gain_D;
  const A* dy_D = op.dy_RD.row<A>(r);

  const SumPair sums = team.sum(
      D,
      [](float x, float dy, float gain) {
        return SumPair{x, dy * gain};
      },
      x_D, dy_D, gain_D);
  const float mean = sums.first / static_cast<float>(D), mean_g = sums.second / static_cast<float>(D);
  const SumPair centered = team.sum(
      D,
      [=](float x, float dy, float gain) {
        return SumPair{(x - mean) * (x - mean), dy * gain * (x - mean)};
      },
      x_D, dy_D, gain_D);
  const float inv_std = 1.0f / sqrtf(centered.first / static_cast<float>(D) + op.eps);
  const float back = centered.second / static_cast<float>(D) * inv_std * inv_std;  // mean(g n) / std

  const auto column = [=](float x, float dy, float gain, float& dgain, float& dbias) {
    dgain += dy * (x - mean) * inv_std;
    dbias += dy;
    return (dy * gain - mean_g - (x - mean) * back) * inv_std;
  };
  write_norm_grad<A>(team, op, r, 0, D, column, dgain_D, dgain_D + D);
}

}  // namespace slipway::body
