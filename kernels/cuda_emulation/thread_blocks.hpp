// Runs the threads of CUDA blocks on the CPU: each thread is a fiber, and all run on one OS thread.
//
// A thread runs until a barrier or a warp collective (a shuffle); then another one runs. The order of threads and
// blocks can be chosen, since a correct kernel gives the same result in every order and a wrong one seldom does.
#pragma once

#include <vector_types.h>

#include <cstdint>
#include <functional>
#include <source_location>

namespace slipway::cuda_emulation {

/// The order in which threads and blocks run. The environment variable
/// SLIPWAY_THREAD_ORDER=ascending|descending|shuffled:SEED sets it.
struct ThreadOrder {
  enum Kind { kAscending, kDescending, kShuffled } kind = kAscending;
  std::uint64_t seed = 1;  ///< of kShuffled
};
void set_thread_order(ThreadOrder order);

/// The coordinates of the running thread.
struct ThreadCoords {
  uint3 thread{}, block{};
  dim3 block_dim, grid_dim;
};
extern constinit thread_local ThreadCoords coords;

/// Runs `thread_body` for every thread of every block, and returns when all have ended.
/// Errors   calls that are invalid on a GPU end the program with one sentence (see refuse()).
void run_grid(const char* kernel, dim3 grid, dim3 block, const std::function<void()>& thread_body);

/// Waits for every thread of the block. All must call it at the same place.
void sync_block(std::source_location location);

/// Waits for the threads of the warp in `mask`; the last one runs `combine` over the `data` of all of them:
/// `data[thread]`, null for a thread that is not in the mask. All must call it with the same mask at the same place.
void warp_collective(unsigned mask, const char* what, void* data, void (*combine)(void* const data[32]),
                     std::source_location location);

/// Shared memory of the block for the variable `id`: the same for all threads, filled with NaN before the first use.
void* shared_variable(const void* id, std::size_t bytes, std::size_t alignment);

/// Asynchronous copies into shared memory. A GPU may make them at any time; two times expose every error: when the
/// thread waits for their group, so that a read that is too early gets the old contents (ascending order), and at once,
/// so that a late read of the old contents gets the new ones (descending); shuffled orders choose at random.
/// `from` null: zeros.
void cp_async(void* shared, const void* from, std::size_t bytes, std::source_location location);
void cp_async_commit();
void cp_async_wait(std::size_t max_pending);

int lane_in_warp();

/// Ends the program: "CUDA emulation: <kernel>, block (x,y,z), thread (x,y,z): <sentence> (file:line)".
[[noreturn]] void report_and_abort(const char* message,
                                   std::source_location location = std::source_location::current());

}  // namespace slipway::cuda_emulation
