// What the CUDA backend offers to the program, which opens it at run time: no type of CUDA's is in it.
#pragma once

#include <string>
#include <vector>

#include "kernels/backend/backend.hpp"
#include "src/core/profile.hpp"

namespace slipway::cuda {

/// A GPU as its driver describes it.
struct Gpu {
  std::string name;          ///< "NVIDIA H100 80GB HBM3"
  std::string architecture;  ///< "sm_90"
  std::size_t bytes = 0;     ///< of its memory
};

/// The one symbol of the backend's shared object, `slipway_cuda_backend`, returns it.
struct BackendLibrary {
  const char* version = "";  ///< of the Slipway that it belongs to
  const char* runtime = "";  ///< "CUDA 13.0"
  bool on_host = false;      ///< there is no GPU: kernels run on this CPU, for tests
  /// The GPUs that this process may use. Errors: Fault::kDevice saying why there is none: no driver, a driver that is
  /// too old, or no card.
  std::vector<Gpu> (*gpus)() = nullptr;
  /// Takes GPU number `index` for this process, and its ops. Errors: Fault::kDevice; a process has one.
  const Backend& (*open)(int index) = nullptr;
  profile::Listener ranges;  ///< NVTX: ranges in the timelines of NVIDIA's tools
};

}  // namespace slipway::cuda

extern "C" const slipway::cuda::BackendLibrary& slipway_cuda_backend();
