// Operations and bytes of each op, counted from its shapes: every operand once, multiply and add as two operations.
#pragma once

#include "kernels/backend/backend.hpp"
#include "src/core/profile.hpp"

namespace slipway {

// For every op. `memory` holds the op's operands: the mask of attention is read from it.
#define SLIPWAY_OP(op_name, Op) profile::Cost cost_of(const Op& op, MemorySpace& memory);
SLIPWAY_EACH_OP(SLIPWAY_OP)
#undef SLIPWAY_OP

/// The name of an op in profiles. The three matmuls of a layer have separate names, since they run at different rates.
inline const char* name_of(const MatMul& op, const char*) {
  return op.transpose_a ? "matmul wgrad (dy^T x)" : op.transpose_b ? "matmul fprop (x W^T)" : "matmul dgrad (dy W)";
}
inline const char* name_of(const MatMulQuantized&, const char*) { return "matmul fprop (x W^T), q8_0"; }
template <class Op>
const char* name_of(const Op&, const char* op_name) {
  return op_name;
}

}  // namespace slipway
