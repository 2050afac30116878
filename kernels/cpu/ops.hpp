// The CPU backend's functions, as kernels/backend/cpu_backend.cpp lists them.
#pragma once

#include "kernels/backend/backend.hpp"

namespace slipway::cpu {

// The backend's functions; matmul: few rows of `x W^T` here, everything else by matmul_general.
#define SLIPWAY_OP(entry, Op) void entry(Stream&, const Op& op);
SLIPWAY_EACH_OP(SLIPWAY_OP)
#undef SLIPWAY_OP

// The backends of this build's instruction sets (kernels/cpu/instructions.cpp).
Backend backend_base();  ///< what everything is compiled for
#if defined(SLIPWAY_AVX512)
Backend backend_avx512();
Backend backend_avx512_bf16();
#endif

void matmul_general(Stream&, const MatMul& op);  ///< of any shape: oneDNN's where it was built in, else plain loops
void matmul_loops(Stream&, const MatMul& op);    ///< plain loops: the oracle of the others
std::string onednn_instructions();               ///< what oneDNN makes its code for: "AVX512_BF16"
bool onednn_is_signal_safe();
std::string onednn_version();  ///< "oneDNN 2.6.3"
/// Limits oneDNN to an instruction set. False when it is too late: oneDNN has multiplied, or was asked what it has.
bool limit_onednn(std::string_view set);
bool onednn_has_bf16();  ///< bf16 matmuls run in hardware; only where SLIPWAY_ONEDNN is defined

}  // namespace slipway::cpu
