// The gated activation of the feed-forward block.
#pragma once

#include "kernels/backend/stream.hpp"
#include "kernels/tensor_view.hpp"

namespace slipway {

/// `y = silu(gate) * up`, silu(z) = z / (1 + exp(-z)).
///
/// Shapes   gate, up, y [R, F].
/// Precision all f32 or all bf16; computed in f32.
/// Aliasing `y` may be `gate` or `up`.
/// Source   Shazeer, "GLU Variants Improve Transformer", 2020.
struct Swiglu {
  ConstTensorView gate_RF;
  ConstTensorView up_RF;
  TensorView y_RF;
};

/// `dup = dy * silu(gate)`, `dgate = dy * up * silu'(gate)`, silu'(z) = s (1 + z (1 - s)) with s = 1 / (1 + exp(-z)).
///
/// Shapes   all [R, F].
/// Precision all f32 or all bf16; computed in f32.
/// Aliasing `dgate` may be `gate`, `dup` may be `up` or `dy`.
/// Cost     with `y` the forward result is recomputed in the same pass, so that it need not be saved.
struct SwigluGrad {
  ConstTensorView gate_RF;
  ConstTensorView up_RF;
  ConstTensorView dy_RF;
  TensorView dgate_RF;
  TensorView dup_RF;
  TensorView y_RF;  ///< null: not written
};

}  // namespace slipway
