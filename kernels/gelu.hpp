// The activation of GPT-2's feed-forward block.
#pragma once

#include "kernels/backend/stream.hpp"
#include "kernels/tensor_view.hpp"

namespace slipway {

/// `y = gelu(x)`, gelu(x) = 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))): GPT-2's approximation, which PyTorch
/// calls `gelu(x, approximate="tanh")` and Hugging Face `gelu_new`.
///
/// Shapes   x, y [R, F].
/// Precision both f32 or both bf16; computed in f32 as x / (1 + exp(-2 u)), where u is the argument of tanh, so that
///          small results of negative x keep their precision.
/// Aliasing `y` may be `x`.
/// Source   Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016, section 2.
struct Gelu {
  ConstTensorView x_RF;
  TensorView y_RF;
};

/// `dx = dy * gelu'(x)`, gelu'(x) = s + x s (1 - s) 2 u'(x) with s = 1 / (1 + exp(-2 u)) and
/// u'(x) = sqrt(2 / pi) (1 + 3 * 0.044715 x^2).
///
/// Shapes   all [R, F].
/// Precision all f32 or all bf16; computed in f32.
/// Aliasing `dx` may be `x` or `dy`; `y` may be the other of the two.
/// Cost     with `y` the forward result is recomputed in the same pass, so that it need not be saved.
struct GeluGrad {
  ConstTensorView x_RF;
  ConstTensorView dy_RF;
  TensorView dx_RF;
  TensorView y_RF;  ///< null: not written
};

}  // namespace slipway
