// What computes: the CPU, or a GPU by way of the CUDA backend, which is opened only when it is asked for.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend/backend.hpp"

namespace slipway {

/// The backend of the device that `word` names: "cpu"; "cuda" (GPU `local_rank` modulo the number of GPUs); "cuda:N";
/// "auto" ("cuda" where a GPU can be used, else "cpu"). `instructions` selects the CPU's instruction set (cpu_backend).
/// Errors   Fault::kDevice when a GPU is asked for and cannot be used, with the reason; Fault::kConfig for another
/// word.
const Backend& backend_for(const std::string& word, int local_rank = 0, std::string_view instructions = "auto");

/// Workspace of cublasLt's matmuls: the size that NVIDIA recommends for H100, used on every GPU.
inline constexpr std::size_t kGemmWorkspaceBytes = std::size_t{32} << 20;

/// What there is of CUDA, as `doctor` prints it.
struct CudaInfo {
  bool is_built = false;           ///< this program has a CUDA backend
  bool is_emulated = false;        ///< it is the CUDA emulation, for tests: `auto` never selects it
  std::string runtime;             ///< "CUDA 13.0"
  std::vector<std::string> gpus;   ///< "NVIDIA H100 80GB HBM3, sm_90, 79 GiB"
  std::string unavailable_reason;  ///< why no GPU can be used; empty where one can
};
const CudaInfo& find_cuda();  ///< looked for once
/// What `backend` computes on: the model of the CPU or of the GPU.
std::string hardware_name(const Backend& backend);

}  // namespace slipway
