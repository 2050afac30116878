// Root-mean-square normalization.
#pragma once

#include "kernels/backend/stream.hpp"
#include "kernels/tensor_view.hpp"

namespace slipway {

/// Root-mean-square normalization of every row: `y[r,d] = x[r,d] / rms(x[r,:]) * gain[d]`. With `groups`, a row holds
/// that many vectors (heads) side by side, each normalized separately with the same gain.
///
/// Shapes   x, y [R, groups * D]; gain [D]; R rows (sequences * tokens), D model width; R >= 0, D >= 1.
/// Precision x and y f32, or both bf16, or x f32 and y bf16; the sum of squares is kept in f32.
/// Aliasing `y` may be `x`; `gain` overlaps neither.
/// Errors   Fault::kBug when shapes disagree or `eps` is not positive.
/// Cost     reads 2*R*D elements, writes R*D; bound by memory.
/// Source   Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019, equation 4.
struct RmsNorm {
  ConstTensorView x_RD;
  const float* gain_D = nullptr;
  TensorView y_RD;
  float eps = 1e-6f;  ///< added to the mean square; unit of x squared
  int groups = 1;
};

/// Gradient of RmsNorm: `dx = (dy * gain - x * mean(dy * gain * x) / ms) / rms` with ms = mean(x^2) + eps, and
/// `dgain[d] += sum over r of dy[r,d] * x[r,d] / rms(x[r,:])`.
///
/// Shapes   x, dy, dx [R, groups * D]; gain, dgain [D].
/// Precision x, dy, dx are all f32 or all bf16; rows are summed into dgain over fixed blocks of 64 rows, block sums in
///          order, whatever the number of threads.
/// Aliasing `dx` may be `dy`. `accumulate_dx` adds to dx instead of replacing it (dx is then not dy).
struct RmsNormGrad {
  ConstTensorView x_RD;
  const float* gain_D = nullptr;
  ConstTensorView dy_RD;
  TensorView dx_RD;
  float* dgain_D = nullptr;
  float eps = 1e-6f;
  bool accumulate_dx = false;
  int groups = 1;
  Matrix<Bf16> dx_bf16_RD;  ///< the new dx, rounded; null: not written
};

}  // namespace slipway
