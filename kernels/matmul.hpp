// Matrix multiplication.
#pragma once

#include "kernels/backend/stream.hpp"
#include "kernels/tensor_view.hpp"

namespace slipway {

/// `c = op(a) op(b)`, where op transposes or does nothing; or `c += ...`; or `c = residual + ...`.
///
/// Shapes   op(a) [M, K], op(b) [K, N], c [M, N]; any of them may be 0. Views are row-major, as before op.
/// Precision both operands f32, or both bf16; products and sums in f32 (bf16 operands are exact in f32). c is f32, or
///          bf16 where the operands are: each sum is rounded once. Only an f32 c accumulates, or takes a residual
/// (f32).
/// Aliasing c overlaps neither operand; the residual is c or does not overlap it.
/// Cost     a GPU adds the residual while it writes c, without another pass over memory.
/// Errors   Fault::kBug when shapes or element types disagree.
struct MatMul {
  ConstTensorView a;
  ConstTensorView b;
  TensorView c;
  bool transpose_a = false;
  bool transpose_b = false;
  bool accumulate = false;
  Matrix<const float> residual;  ///< null: none
};

}  // namespace slipway
