// Small ops over rows and ranges: add, bias, scale, copy into another type.
#pragma once

#include <span>

#include "kernels/backend/stream.hpp"
#include "kernels/tensor_view.hpp"

namespace slipway {

/// `y += x`, element by element; with `sum`, `sum = x + y` instead. Shapes: equal lengths. Aliasing: y may be x, and
/// sum may be y.
struct Add {
  std::span<const float> x;
  std::span<float> y;
  std::span<float> sum;
};

/// `x *= factor`.
struct Scale {
  std::span<float> x;
  float factor = 1.0f;
};

/// `y[r,d] += bias[d]`. Shapes: y [R, D] in f32 or bf16, bias [D].
struct AddBias {
  const float* bias_D = nullptr;
  TensorView y_RD;
};

/// `dbias[d] += sum over r of dy[r,d]`, dy in f32 or bf16, over fixed blocks of 64 rows, block sums in order.
struct BiasGrad {
  ConstTensorView dy_RD;
  float* dbias_D = nullptr;
};

/// `y = x`, bit for bit. Shapes: equal [R, D] of one element type. Aliasing: they overlap nowhere.
struct Copy {
  ConstTensorView x_RD;
  TensorView y_RD;
};

/// `x = 0`. Shapes: x [R, D] in f32 or bf16.
struct Clear {
  TensorView x_RD;
};

/// `y = bf16(x)`, nearest, ties to even. Shapes: equal [R, D].
struct ToBf16 {
  Matrix<const float> x_RD;
  Matrix<Bf16> y_RD;
};

}  // namespace slipway
