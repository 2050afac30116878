// The CPU backend's functions, as kernels/backend/cpu_backend.cpp lists them.
#pragma once

#include "kernels/backend/backend.hpp"

namespace slipway::cpu {

// The table's functions. `matmul` runs `x W^T` with few rows in x itself and calls matmul_general for all others.
#define SLIPWAY_OP(op_name, Op) void op_name(Stream&, const Op& op);
SLIPWAY_EACH_OP(SLIPWAY_OP)
#undef SLIPWAY_OP

// The tables of this build's instruction sets (kernels/cpu/instructions.cpp).
Backend backend_base();  ///< the instruction set that the whole program is compiled for
#if defined(SLIPWAY_AVX512)
Backend backend_avx512();
Backend backend_avx512_bf16();
#endif

void matmul_general(Stream&, const MatMul& op);  ///< any shape: by oneDNN where it is built in, else by plain loops
void matmul_loops(Stream&, const MatMul& op);    ///< plain loops: the reference for the others
std::string onednn_instructions();               ///< the instruction set that oneDNN uses: "AVX512_BF16"
bool onednn_is_signal_safe();
std::string onednn_version();  ///< "oneDNN 2.6.3"
/// Limits oneDNN to an instruction set. False when it is too late: after its first matmul, or a query of its set.
bool limit_onednn(std::string_view set);
bool onednn_has_bf16();  ///< bf16 matmuls run in hardware; only where SLIPWAY_ONEDNN is defined

}  // namespace slipway::cpu
