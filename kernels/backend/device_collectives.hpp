// Collectives between GPUs, without host memory: what NCCL offers.
#pragma once

#include <array>
#include <cstddef>
#include <string>

#include "kernels/backend/stream.hpp"

namespace slipway {

/// What a backend offers for groups of processes, each with a GPU of its own. Ordered with the ops of the main stream.
///
/// Errors   Fault::kComm, in the library's words; also from a later wait for the device, for what failed meanwhile.
struct DeviceCollectives {
  using UniqueId = std::array<std::byte, 128>;

  const char* name = "";                  ///< "nccl"
  std::string (*gpu_uuid)() = nullptr;    ///< of this process's GPU: other GPUs, anywhere, have others
  UniqueId (*get_unique_id)() = nullptr;  ///< for join(): one member makes it, all of them use it
  void* (*join)(const UniqueId&, int rank,
                int size) = nullptr;  ///< this process as a member; returns when all have joined
  void (*leave)(void* comm) noexcept = nullptr;
  /// `bytes` of `root` become those of every member.
  void (*broadcast)(void* comm, void* bytes, std::size_t count, int root) = nullptr;
  /// `all` receives `count` bytes of each member, in rank order. Aliasing: `mine` may be its own place in `all`.
  void (*all_gather)(void* comm, const void* mine, std::size_t count, void* all) = nullptr;
  void (*send_recv)(void* comm, int peer, const void* send, void* receive, std::size_t count) = nullptr;
  /// `x` becomes the sum over the members, in an order that the library chooses.
  void (*all_reduce_sum)(void* comm, float* x, std::size_t count) = nullptr;
  void (*copy)(void* to, const void* from, std::size_t bytes) = nullptr;  ///< within this GPU's memory
  /// Collectives, copies, and ops in `side_stream`, from here to end_overlap(), run after everything queued so far, and
  /// concurrently with what is queued meanwhile, which must not access their buffers. May be called again.
  void (*begin_overlap)() = nullptr;
  /// What is queued from now on, collectives too, runs after them.
  void (*end_overlap)() = nullptr;
  Stream (*side_stream)() = nullptr;  ///< the stream of ops between the two
  /// What is called when the host begins to wait for the device, and when it has ended.
  void (*on_wait)(void (*on_begin)(), void (*on_end)()) = nullptr;
};

}  // namespace slipway
