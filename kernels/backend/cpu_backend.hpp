// The CPU backend: its instruction sets, its threads, and what this CPU can do.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend/backend.hpp"

namespace slipway {

/// The CPU backend with the instructions in force: oneDNN's products where it was built in, else plain loops.
const Backend& cpu_backend();

/// Every backend that can run here, each instruction set of this CPU included: the subjects of the parity tests.
std::span<const Backend* const> all_backends();

/// Which instructions the CPU backend uses, oneDNN's products included: "auto" takes the best that this CPU has.
/// Call it before the first product; later calls reach the row ops alone.
/// Errors   Fault::kDevice when this CPU or this build lacks them, Fault::kConfig for another word; the sentence lists
///          what there is.
void set_instructions(std::string_view set);
std::vector<std::string_view> instruction_sets();  ///< what set_instructions takes here, "auto" first, then rising

/// What this CPU can do, as `doctor` prints it.
struct CpuFeatures {
  std::string model;  ///< "AMD EPYC ..."
  bool avx2 = false;
  bool avx512 = false;
  bool avx512_bf16 = false;
  bool amx_bf16 = false;
  std::string instructions;  ///< what this build and its products really use: equal bits need an equal one
  bool native_bf16 = false;  ///< as the tables of the CPU have it
};
CpuFeatures cpu_features();
/// Whether a signal handler may run while a matmul does: false for oneDNN before 3.11.2, whose f32 kernels use the
/// stack pointer for addresses in the heap (its issue 4845).
bool matmuls_are_signal_safe();
std::string gemm_library_version();  ///< of the library behind cpu_backend().products: "oneDNN 2.6.3", or "plain loops"

/// Threads that each op may use, for this process. Cost: takes effect from the next op.
void set_threads(int threads);
int threads();

}  // namespace slipway
