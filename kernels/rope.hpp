// Rotary position embedding.
#pragma once

#include <span>

#include "kernels/backend/stream.hpp"
#include "kernels/tensor_view.hpp"

namespace slipway {

/// Rotates, in place, the halves of every head by angles that grow with the position:
/// `(x1, x2) -> (x1 cos - x2 sin, x2 cos + x1 sin)` with x1 = x[.., j], x2 = x[.., j + K/2].
///
/// Shapes   x [N, heads * K] with K even; position [N]; cos, sin [P, K/2] by rope_table, position < P.
/// Precision x f32 or bf16, rotated in f32; angles are computed in f64 when the table is made.
/// Errors   Fault::kBug when K is odd or shapes disagree.
/// Source   Su et al., "RoFormer", 2021; halves as Hugging Face's llama stores them (GGUF's llama interleaves:
/// io/model/tensor_layout.hpp).
struct Rope {
  TensorView x_NHK;
  const int* position_N = nullptr;
  Matrix<const float> cos_PJ;
  Matrix<const float> sin_PJ;
  int head_width = 0;
  bool inverse = false;  ///< rotates back: the gradient of the rotation
};

/// Fills `cos_PJ` and `sin_PJ` for positions [0, P): the angle of (p, j) is `p * base^(-2 j / head_width)`, divided by
/// `divisors[j]` if there are any.
void rope_table(Matrix<float> cos_PJ, Matrix<float> sin_PJ, int head_width, double base,
                std::span<const float> divisors = {});

}  // namespace slipway
