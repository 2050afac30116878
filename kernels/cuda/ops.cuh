// The CUDA backend's functions. Every pointer of an op is to device memory.
#pragma once

#include "kernels/backend/backend.hpp"

namespace slipway::cuda {

// The table's functions; matmul: few rows of `x W^T` here, everything else by cublasLt.
#define SLIPWAY_OP(entry, Op) void entry(Stream&, const Op& op);
SLIPWAY_EACH_OP(SLIPWAY_OP)
#undef SLIPWAY_OP

void matmul_cublaslt(Stream&, const MatMul& op);
const GemmAutotuner* gemm_autotuner();
void matmul_loops(Stream&, const MatMul& op);  ///< plain loops: the oracle of the others

}  // namespace slipway::cuda
