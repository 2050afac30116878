// Asynchronous copies from global to shared memory. The CUDA emulation makes them as late or as early as a GPU may,
// depending on the order of threads (kernels/cuda_emulation/thread_blocks.hpp).
// Source   NVIDIA, "Parallel Thread Execution ISA", section on cp.async.
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.cuh"

namespace slipway::cuda {

#if defined(__CUDACC__)

/// Copies `kBytes` (4, 8 or 16; both addresses are multiples of it). Without `is_valid` writes zeros and does not read
/// `from`.
template <int kBytes>
__device__ __forceinline__ void cp_async(void* shared, const void* from, bool is_valid = true) {
  const auto to = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  const int bytes = is_valid ? kBytes : 0;
  if constexpr (kBytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from), "n"(kBytes), "r"(bytes)
                 : "memory");
}

/// Makes one group, which may be empty, of this thread's copies since the last call.
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Waits until at most the `kMaxPending` newest groups of this thread are pending. The copies of other threads are
/// visible after a barrier that follows.
template <int kMaxPending>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kMaxPending) : "memory");
}

#else

template <int kBytes>
void cp_async(void* shared, const void* from, bool is_valid = true,
              std::source_location location = std::source_location::current()) {
  cuda_emulation::cp_async(shared, is_valid ? from : nullptr, kBytes, location);
}
inline void cp_async_commit() { cuda_emulation::cp_async_commit(); }
template <int kMaxPending>
void cp_async_wait() {
  cuda_emulation::cp_async_wait(kMaxPending);
}

#endif

}  // namespace slipway::cuda
