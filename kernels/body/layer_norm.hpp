// Formulas of kernels/layer_norm.hpp, for one row.
#pragma once

#include <cmath>

#include "kernels/body/norm_grad.hpp"
#include "kernels/layer_norm.hpp"

namespace slipway::body {

struct RowMoments {
  float mean, inv_std;
};

/// Mean and 1 / sqrt(variance + eps) of D elements. The rounding error of the first mean is large for a row whose mean
/// is far from zero; the mean of the deviations corrects it (the corrected two-pass algorithm of Chan, Golub and
/// LeVeque, 1983).
template <class X, Team T>
SLIPWAY_HD RowMoments row_moments(const T& team, const X* x_D, int D, float eps) {
  const float size = static_cast<float>(D);
  const float mean = team.sum(
                         D, [](float x) { return x; }, x_D) /
                     size;
  const SumPair centered = team.sum(
      D,
      [=](float x) {
        return SumPair{x - mean, (x - mean) * (x - mean)};
      },
      x_D);
  const float correction = centered.first / size;
  const float variance = centered.second / size - correction * correction;
  return {mean + correction, 1.0f / sqrtf(variance + eps)};
}

template <class X, class Y, Team T>
SLIPWAY_HD void layer_norm(const T& team, const LayerNorm& op, int r) {
  const int D = op.x_RD.cols;
  const X* x_D = op.x_RD.row<X>(r);
  const float *gain_D = op.gain_D, *bias_D = op.bias_D;
  Y* y_D = op.y_RD.row<Y>(r);

  const RowMoments moments = row_moments(team, x_D, D, op.eps);
  const float mean = moments.mean, inv_std = moments.inv_std;
  if (bias_D == nullptr)
    return team.for_each(
        D, [=](float x, float gain, float& y) { y = (x - mean) * inv_std * gain; }, x_D, gain_D, write_only(y_D));
  team.for_each(
      D, [=](float x, float gain, float bias, float& y) { y = (x - mean) * inv_std * gain + bias; }, x_D, gain_D,
      bias_D, write_only(y_D));
}

/// Writes the row's dx, and adds its dgain and dbias to the 2 D elements from `dgain_D` on (the sums of its block of
/// rows).
template <class A, Team T>
SLIPWAY_HD void layer_norm_grad(const T& team, const LayerNormGrad& op, int r, float* dgain_D) {
  const int D = op.x_RD.cols;
  const A* x_D = op.x_RD.row<A>(r);
  const float* gain_D = op.gain_D;
  const A* dy_D = op.dy_RD.row<A>(r);

  const RowMoments moments = row_moments(team, x_D, D, op.eps);
  const float mean = moments.mean, inv_std = moments.inv_std;
  const SumPair sums = team.sum(
      D,
      [=](float x, float dy, float gain) {
        return SumPair{dy * gain, dy * gain * (x - mean)};
      },
      x_D, dy_D, gain_D);
  const float mean_g = sums.first / static_cast<float>(D);
  const float projection = sums.second / static_cast<float>(D) * inv_std * inv_std;  // mean(g n) / std

  const auto column = [=](float x, float dy, float gain, float& dgain, float& dbias) {
    dgain += dy * (x - mean) * inv_std;
    dbias += dy;
    return (dy * gain - mean_g - (x - mean) * projection) * inv_std;
  };
  write_norm_grad<A>(team, op, r, 0, D, column, dgain_D, dgain_D + D);
}

}  // namespace slipway::body
