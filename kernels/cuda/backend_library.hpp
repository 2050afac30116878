// The interface of the CUDA backend's shared library, which the program loads at run time; it uses no CUDA types.
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
  std::size_t bytes = 0;     ///< total memory
};

/// Returned by the one symbol of the shared library, `slipway_cuda_backend`.
struct BackendLibrary {
  const char* version = "";  ///< of the Slipway that it was built with
  const char* runtime = "";  ///< "CUDA 13.0"
  bool is_emulated = false;  ///< the CUDA emulation: kernels run on this CPU, for tests
  /// The GPUs that this process may use. Errors: Fault::kDevice with the reason when there is none: no driver, a driver
  /// that is too old, or no GPU.
  std::vector<Gpu> (*gpus)() = nullptr;
  /// Selects GPU `index` for this process, and returns its ops. A process uses one GPU. Errors: Fault::kDevice.
  const Backend& (*open)(int index) = nullptr;
  profile::Listener ranges;  ///< NVTX: ranges in the timelines of NVIDIA's tools
};

}  // namespace slipway::cuda

extern "C" const slipway::cuda::BackendLibrary& slipway_cuda_backend();
