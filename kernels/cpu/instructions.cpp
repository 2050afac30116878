// The row ops, attention and products of few rows, compiled for one instruction set (kernels/CMakeLists.txt compiles
// this folder's list of sources once for each of them). Only this function is visible outside the set's object file.
#include "kernels/cpu/ops.hpp"

namespace slipway::cpu {

Backend SLIPWAY_INSTRUCTIONS_BACKEND() {
  Backend backend{.name = "cpu", .instructions = SLIPWAY_INSTRUCTIONS};
#define SLIPWAY_OP(op_name, Op) backend.op_name = op_name;
  SLIPWAY_EACH_OP(SLIPWAY_OP)
#undef SLIPWAY_OP
  return backend;
}

}  // namespace slipway::cpu
