// CUDA C++ for a host compiler: the declarations that a .cu file needs to run on the CPU. The build includes this file
// before any other (preset cuda-host); nvcc never reads it.
//
// Threads are fibers (thread_blocks.hpp), so a kernel's source is the same in both builds, without a single #ifdef.
#pragma once

#include <cuda_runtime.h>

#include <bit>
#include <cstdint>
#include <cstdio>
#include <source_location>
#include <type_traits>
#include <utility>

#include "kernels/cuda_emulation/memory.hpp"
#include "kernels/cuda_emulation/streams.hpp"
#include "kernels/cuda_emulation/tensor_core.hpp"
#include "kernels/cuda_emulation/thread_blocks.hpp"

#define SLIPWAY_CUDA_EMULATION

// A thread's coordinates. NVIDIA's headers declare these variables only for nvcc.
#define threadIdx (::slipway::cuda_emulation::coords.thread)
#define blockIdx (::slipway::cuda_emulation::coords.block)
#define blockDim (::slipway::cuda_emulation::coords.block_dim)
#define gridDim (::slipway::cuda_emulation::coords.grid_dim)
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __device__
#define __device__
#undef __forceinline__
#define __forceinline__ inline

namespace slipway::cuda_emulation {

/// A thread's operands and result in a warp collective.
template <class T>
struct ShuffleArgs {
  T value;
  int from = 0;  ///< the thread whose value is wanted
  T result{};
};

template <class T>
T shuffle(unsigned mask, const char* what, T value, int from, std::source_location location) {
  ShuffleArgs<T> args{value, from};
  warp_collective(
      mask, what, &args,
      [](void* const all[32]) {
        for (int lane = 0; lane < 32; ++lane) {
          if (all[lane] == nullptr) continue;
          auto* one = static_cast<ShuffleArgs<T>*>(all[lane]);
          const void* source = all[one->from];
          if (source == nullptr) report_and_abort("a shuffle reads from a thread outside its mask");
          one->result = static_cast<const ShuffleArgs<T>*>(source)->value;
        }
      },
      location);
  return args.result;
}

}  // namespace slipway::cuda_emulation

using SourceLocation = std::source_location;

inline void __syncthreads(SourceLocation location = SourceLocation::current()) {
  slipway::cuda_emulation::sync_block(location);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, SourceLocation location = SourceLocation::current()) {
  slipway::cuda_emulation::warp_collective(
      mask, "__syncwarp", nullptr, [](void* const[32]) {}, location);
}
namespace slipway::cuda_emulation {
inline void check_width(int width, SourceLocation location) {
  if (width != 32)
    report_and_abort("a shuffle within parts of a warp, which the CUDA emulation does not have", location);
}
}  // namespace slipway::cuda_emulation
template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, SourceLocation location = SourceLocation::current()) {
  slipway::cuda_emulation::check_width(width, location);
  return slipway::cuda_emulation::shuffle(mask, "__shfl_sync", value, lane & 31, location);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32,
                  SourceLocation location = SourceLocation::current()) {
  slipway::cuda_emulation::check_width(width, location);
  return slipway::cuda_emulation::shuffle(mask, "__shfl_xor_sync", value,
                                          slipway::cuda_emulation::lane_in_warp() ^ bits, location);
}
/// Threads whose source lane lies beyond the warp keep their own value.
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   SourceLocation location = SourceLocation::current()) {
  slipway::cuda_emulation::check_width(width, location);
  const int lane = slipway::cuda_emulation::lane_in_warp(), from = lane + static_cast<int>(delta);
  return slipway::cuda_emulation::shuffle(mask, "__shfl_down_sync", value, from < 32 ? from : lane, location);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, SourceLocation location = SourceLocation::current()) {
  struct Vote {
    int yes;
    unsigned result;
  } args{predicate, 0};
  slipway::cuda_emulation::warp_collective(
      mask, "__ballot_sync", &args,
      [](void* const all[32]) {
        unsigned votes = 0;
        for (int lane = 0; lane < 32; ++lane)
          if (all[lane] != nullptr && static_cast<Vote*>(all[lane])->yes != 0) votes |= 1u << lane;
        for (int lane = 0; lane < 32; ++lane)
          if (all[lane] != nullptr) static_cast<Vote*>(all[lane])->result = votes;
      },
      location);
  return args.result;
}

inline int min(int a, int b) { return b < a ? b : a; }
inline int __ffs(int word) { return __builtin_ffs(word); }
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }

// Not atomic, since the threads of a kernel never run in parallel.
inline unsigned long long atomicMin(unsigned long long* address, unsigned long long value) {
  const unsigned long long old = *address;
  if (value < old) *address = value;
  return old;
}

/// Declares `name` as an array in the shared memory of the block.
#define SLIPWAY_SHARED(type, name, count)            \
  static const char name##_id = 0;                   \
  type(&name)[count] = *static_cast<type(*)[count]>( \
      ::slipway::cuda_emulation::shared_variable(&name##_id, sizeof(type[count]), alignof(type)))
namespace slipway::cuda {

/// Ends the program when a kernel's argument holds an address of host memory.
template <class T>
void check_no_host_addresses(const char* kernel, T argument) {
  static_assert(std::is_trivially_copyable_v<T>, "a kernel's arguments are copied to the device byte by byte");
  __builtin_clear_padding(&argument);  // stale bytes of the stack could look like an address
  const void* address = cuda_emulation::pageable_address_in(&argument, sizeof(T));
  if (address == nullptr) return;
  char words[160];
  std::snprintf(words, sizeof words, "an argument of %s holds %p, memory of the host that a GPU cannot reach", kernel,
                address);
  cuda_emulation::report_and_abort(words);
}

/// The host version of start_kernel in kernels/cuda/launch.cuh.
template <class... Parameters, class... Arguments>
void start_kernel(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, cudaStream_t stream,
                  Arguments&&... arguments) {
  using cuda_emulation::report_and_abort;
  if (grid.y > 65535 || grid.z > 65535) report_and_abort("a grid has no more than 65535 blocks along y and z");
  if (block.x * block.y * block.z == 0 || grid.x * grid.y * grid.z == 0) report_and_abort("a launch of nothing");
  if (block.x * block.y * block.z > 1024) report_and_abort("a block has no more than 1024 threads");
  (check_no_host_addresses<Parameters>(name, arguments), ...);
  cuda_emulation::enqueue(stream, [=] {
    cuda_emulation::run_grid(name, grid, block, [&] { kernel(static_cast<Parameters>(arguments)...); });
  });
}

}  // namespace slipway::cuda
