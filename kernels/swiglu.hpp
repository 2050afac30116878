// The gated activation of the feed-forward block.
#pragma once

#include "kernels/stream.hpp"
#include "src/core/tensor.hpp"

namespace slipway {

/// `y = silu(gate) * up`, silu(z) = z / (1 + exp(-z)).
///
/// Shapes   gate, up, y [R, F].
/// Aliasing `y` may be `gate` or `up`.
/// Source   Shazeer, "GLU Variants Improve Transformer", 2020.
struct Swiglu {
  Matrix<const float> gate_RF;
  Matrix<const float> up_RF;
  Matrix<float> y_RF;
};

/// `dup = dy * silu(gate)`, `dgate = dy * up * silu'(gate)`, silu'(z) = s (1 + z (1 - s)) with s = 1 / (1 + exp(-z)).
///
/// Shapes   all [R, F].
/// Aliasing `dgate` may be `gate`, `dup` may be `up` or `dy`.
struct SwigluGrad {
  Matrix<const float> gate_RF;
  Matrix<const float> up_RF;
  Matrix<const float> dy_RF;
  Matrix<float> dgate_RF;
  Matrix<float> dup_RF;
};

}  // namespace slipway
