// Runs the threads of CUDA blocks on the CPU: each thread is a fiber, a block is one thread of the system.
//
// A thread runs until it meets others (a barrier, a shuffle); then another one goes on. In which order threads and
// blocks run can be chosen, since a right kernel gives the same result in every order and a wrong one seldom does.
#pragma once

#include <vector_types.h>

#include <cstdint>
#include <functional>
#include <source_location>

namespace slipway::cuda_emulation {

/// In which order threads, and blocks, get their turns. SLIPWAY_THREAD_ORDER=ascending|descending|shuffled:SEED sets it
/// from outside.
struct ThreadOrder {
  enum Kind { kAscending, kDescending, kShuffled } kind = kAscending;
  std::uint64_t seed = 1;  ///< of kShuffled
};
void set_thread_order(ThreadOrder order);

/// Where the running thread stands.
struct Place {
  uint3 thread{}, block{};
  dim3 block_dim, grid_dim;
};
extern constinit thread_local Place place;

/// Runs `thread_body` for every thread of every block, and returns when all have ended.
/// Errors   what no GPU would forgive ends the program with one sentence (see refuse()).
void run_grid(const char* kernel, dim3 grid, dim3 block, const std::function<void()>& thread_body);

/// Waits for every thread of the block. All must come to the same barrier.
void sync_block(std::source_location where);

/// Waits for the threads of the warp that `mask` names; the last one runs `join` over what all of them have brought:
/// `data[thread]`, null where a thread is not named. All must come with one mask to one place.
void meet_warp(unsigned mask, const char* what, void* data, void (*join)(void* const data[32]),
               std::source_location where);

/// Memory of the block for the variable that `id` stands for: the same for all threads, full of NaN before the first
/// use.
void* shared_variable(const void* id, std::size_t bytes, std::size_t alignment);

/// Copies into shared memory beside what the running thread does. Of all times at which a GPU may make them two show
/// every mistake: when the thread waits for their group, so that whoever reads too early finds what was there (forward
/// order), and at once, so that whoever still reads finds what came (backward); shuffled orders take one or the other.
/// `from` null: zeros.
void cp_async(void* shared, const void* from, std::size_t bytes, std::source_location where);
void cp_async_commit();
void cp_async_wait(std::size_t newest);

int lane_in_warp();

/// Ends the program: "CUDA emulation: <kernel>, block (x,y,z), thread (x,y,z): <sentence> (file:line)".
[[noreturn]] void refuse(const char* message, std::source_location where = std::source_location::current());

}  // namespace slipway::cuda_emulation
