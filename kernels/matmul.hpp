// Matrix product.
#pragma once

#include "kernels/operand.hpp"
#include "kernels/stream.hpp"

namespace slipway {

/// `c = op(a) op(b)`, or `c += op(a) op(b)`, with op a transposition or nothing.
///
/// Shapes   op(a) [M, K], op(b) [K, N], c [M, N]; any of them may be 0. Operands are stored row-major and untransposed.
/// Numbers  both operands f32, or both bf16; products and sums in f32 (bf16 operands are exact in f32). c is f32, or
///          bf16 where the operands are: each sum is rounded once. Only an f32 c accumulates.
/// Aliasing c overlaps neither operand.
/// Errors   Fault::kBug when shapes or element types disagree.
struct MatMul {
  Operand a;
  Operand b;
  Activation c;
  bool transpose_a = false;
  bool transpose_b = false;
  bool accumulate = false;
};

}  // namespace slipway
