// The CPU backend: its instruction sets, and what this CPU can do.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend/backend.hpp"

namespace slipway {

/// The CPU backend with these instructions; "auto": the best that this CPU has. Matmuls by oneDNN where it was built in,
/// else by plain loops.
/// Errors   Fault::kDevice when this CPU or this build lacks them, Fault::kConfig for another word; the message lists
///          what there is.
const Backend& cpu_backend(std::string_view instructions = "auto");
std::vector<std::string_view> instruction_sets();  ///< what cpu_backend takes here, "auto" first, then rising

/// Every backend that can run here, each instruction set of this CPU included: the subjects of the parity tests.
std::span<const Backend* const> all_backends();

/// What this CPU can do, as `doctor` prints it.
struct CpuFeatures {
  std::string model;  ///< "AMD EPYC ..."
  bool avx2 = false;
  bool avx512 = false;
  bool avx512_bf16 = false;
  bool amx_bf16 = false;
  bool native_bf16 = false;  ///< oneDNN's bf16 matmuls run in hardware
};
CpuFeatures cpu_features();
/// What the ops of a backend, and oneDNN's matmuls on a CPU, really use: equal bits need an equal one.
std::string describe_instructions(const Backend& backend);
/// Whether a signal handler may run while a matmul does: false for oneDNN before 3.11.2, whose f32 kernels use the
/// stack pointer for addresses in the heap (its issue 4845).
bool matmuls_are_signal_safe();
std::string gemm_library_version();  ///< of the library behind cpu_backend().matmul: "oneDNN 2.6.3", or "plain loops"

}  // namespace slipway
