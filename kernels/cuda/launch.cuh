// Launches kernels and checks CUDA's status codes: the only file with <<<...>>>.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "src/core/error.hpp"

#if defined(__CUDACC__)

/// An array in the block's shared memory.
#define SLIPWAY_SHARED(type, name, count) __shared__ type name[count]

namespace slipway::cuda {

template <class... Parameters, class... Arguments>
void start_kernel(const char*, void (*kernel)(Parameters...), dim3 grid, dim3 block, cudaStream_t stream,
                  Arguments&&... arguments) {
  kernel<<<grid, block, 0, stream>>>(static_cast<Parameters>(arguments)...);
}

}  // namespace slipway::cuda

#elif !defined(SLIPWAY_CUDA_EMULATION)
#error "kernels/cuda is compiled by nvcc, or for the CUDA emulation by the preset cuda-host"
#endif

namespace slipway::cuda {

/// Whether there is no GPU: kernels run on the CPU, on the CUDA emulation.
#if defined(__CUDACC__)
inline constexpr bool kIsEmulated = false;
#else
inline constexpr bool kIsEmulated = true;
#endif

/// Whether the error is sticky: every later CUDA call of this process will return it.
inline bool is_sticky(cudaError_t error) {
  switch (error) {
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorMisalignedAddress:
    case cudaErrorNvlinkUncorrectable: return true;
    default: return false;
  }
}

/// Throws Fault::kDevice, with CUDA's message, when a call failed.
inline void check(const char* what, cudaError_t error) {
  if (error == cudaSuccess) return;
  throw Error(
      Fault::kDevice,
      join(what, ": ", cudaGetErrorName(error), ", ", cudaGetErrorString(error),
           is_sticky(error) ? "; this process cannot use the GPU any more: restart it (train --resume continues "
                              "a run); if the error recurs, look at nvidia-smi -q for errors"
                            : ""));
}

/// The grid of a kernel launch.
struct LaunchConfig {
  const char* name = "";  ///< of the op, for reports
  std::int64_t blocks = 0;
  int blocks_y = 1;
  int threads = 0;  ///< per block
};

/// Queues `kernel(arguments...)`; does nothing where there are no blocks.
template <class... Parameters, class... Arguments>
void launch(const LaunchConfig& config, void (*kernel)(Parameters...), cudaStream_t stream,
            const Arguments&... arguments) {
  if (config.blocks == 0 || config.blocks_y == 0) return;
  start_kernel(config.name, kernel, dim3(static_cast<unsigned>(config.blocks), static_cast<unsigned>(config.blocks_y)),
               dim3(static_cast<unsigned>(config.threads)), stream, static_cast<Parameters>(arguments)...);
  check(config.name, cudaGetLastError());
}

}  // namespace slipway::cuda
