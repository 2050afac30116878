// Layer normalization.
#pragma once

#include "kernels/backend/stream.hpp"
#include "kernels/tensor_view.hpp"

namespace slipway {

/// Layer normalization of every row: `y[r,d] = (x[r,d] - mean(x[r,:])) / std(x[r,:]) * gain[d] + bias[d]` with
/// std^2 = mean((x - mean)^2) + eps.
///
/// Shapes   x, y [R, D]; gain, bias [D]; R rows (sequences * tokens), D model width; R >= 0, D >= 1.
/// Precision x and y f32, or both bf16, or x f32 and y bf16; both sums are kept in f32. The mean is subtracted before
///          squares are summed, so that the variance keeps its precision where the mean is much larger than it.
/// Aliasing `y` may be `x`; `gain` and `bias` overlap neither.
/// Errors   Fault::kBug when shapes disagree or `eps` is not positive.
/// Cost     reads 3*R*D elements, writes R*D; bound by memory.
/// Source   Ba, Kiros and Hinton, "Layer Normalization", 2016, equation 4; PyTorch's nn.LayerNorm.
struct LayerNorm {
  ConstTensorView x_RD;
  const float* gain_D = nullptr;
  const float* bias_D = nullptr;  ///< null: none
  TensorView y_RD;
  float eps = 1e-5f;  ///< added to the variance; unit of x squared
};

/// Gradient of LayerNorm: with n = (x - mean) / std and g = dy * gain,
/// `dx = (g - mean(g) - n * mean(g * n)) / std`, `dgain[d] += sum over r of dy[r,d] * n[r,d]` and
/// `dbias[d] += sum over r of dy[r,d]`.
///
/// Shapes   x, dy, dx [R, D]; gain, dgain, dbias [D].
/// Precision x, dy, dx are all f32 or all bf16; rows are summed into dgain and dbias over fixed blocks of 64 rows,
///          block sums in order, whatever the number of threads.
/// Aliasing `dx` may be `dy`. `accumulate_dx` adds to dx instead of replacing it (dx is then not dy).
struct LayerNormGrad {
  ConstTensorView x_RD;
  const float* gain_D = nullptr;
  ConstTensorView dy_RD;
  TensorView dx_RD;
  float* dgain_D = nullptr;
  float* dbias_D = nullptr;  ///< null: none
  float eps = 1e-5f;
  bool accumulate_dx = false;
  Matrix<Bf16> dx_bf16_RD;  ///< the new dx, rounded; null: not written
};

}  // namespace slipway
