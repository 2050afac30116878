// The CUDA backend's functions. All pointers of an op are to device memory.
#pragma once

#include "kernels/backend/backend.hpp"

namespace slipway::cuda {

// The table's functions. `matmul` runs `x W^T` with few rows in x itself and calls matmul_cublaslt for all others.
#define SLIPWAY_OP(op_name, Op) void op_name(Stream&, const Op& op);
SLIPWAY_EACH_OP(SLIPWAY_OP)
#undef SLIPWAY_OP

void matmul_cublaslt(Stream&, const MatMul& op);
const GemmAutotuner* gemm_autotuner();
void matmul_loops(Stream&, const MatMul& op);  ///< plain loops: the reference for the others

}  // namespace slipway::cuda
