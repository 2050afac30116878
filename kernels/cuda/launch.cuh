// The one place with launch brackets and with CUDA's status codes.
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
inline constexpr bool kOnHost = false;
#else
inline constexpr bool kOnHost = true;
#endif

/// Whether every later call of this process will report the same: its work on the GPU is lost.
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

/// Errors: Fault::kDevice with CUDA's own words when a call failed.
inline void check(const char* what, cudaError_t error) {
  if (error == cudaSuccess) return;
  throw Error(Fault::kDevice,
              join(what, ": ", cudaGetErrorName(error), ", ", cudaGetErrorString(error),
                   is_sticky(error) ? "; the GPU does nothing more for this process: start it again (a run goes on "
                                      "with train --resume), and if it comes again, look at nvidia-smi -q for errors"
                                    : ""));
}

/// How a kernel is spread over the device.
struct LaunchConfig {
  const char* name = "";  ///< of the op, for reports
  std::int64_t blocks = 0;
  int blocks_y = 1;
  int threads = 0;  ///< of a block
};

/// Queues `kernel(arguments...)`; nothing where there are no blocks.
template <class... Parameters, class... Arguments>
void launch(const LaunchConfig& spread, void (*kernel)(Parameters...), cudaStream_t stream,
            const Arguments&... arguments) {
  if (spread.blocks == 0 || spread.blocks_y == 0) return;
  start_kernel(spread.name, kernel, dim3(static_cast<unsigned>(spread.blocks), static_cast<unsigned>(spread.blocks_y)),
               dim3(static_cast<unsigned>(spread.threads)), stream, static_cast<Parameters>(arguments)...);
  check(spread.name, cudaGetLastError());
}

}  // namespace slipway::cuda
