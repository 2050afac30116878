// Small ops over rows and ranges: add, bias, scale, copy into another type.
#pragma once

#include <span>

#include "kernels/stream.hpp"
#include "src/core/dtype.hpp"
#include "src/core/tensor.hpp"

namespace slipway {

/// `y += x`, element by element. Shapes: equal lengths. Aliasing: y may be x.
struct Add {
  std::span<const float> x;
  std::span<float> y;
};

/// `x *= factor`.
struct Scale {
  std::span<float> x;
  float factor = 1.0f;
};

/// `y[r,d] += bias[d]`. Shapes: y [R, D], bias [D].
struct AddBias {
  const float* bias_D = nullptr;
  Matrix<float> y_RD;
};

/// `dbias[d] += sum over r of dy[r,d]`, over fixed blocks of 64 rows, block sums in order.
struct BiasGrad {
  Matrix<const float> dy_RD;
  float* dbias_D = nullptr;
};

/// `y = bf16(x)`, nearest, ties to even. Shapes: equal [R, D].
struct ToBf16 {
  Matrix<const float> x_RD;
  Matrix<Bf16> y_RD;
};

}  // namespace slipway
