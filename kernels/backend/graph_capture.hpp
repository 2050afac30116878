// Graph capture, as a backend offers it (kernels/backend/graph_cache.hpp).
#pragma once

#include <cstdint>

namespace slipway {

/// Errors   Fault::kDevice in the library's words.
struct GraphCapture {
  void (*begin)() = nullptr;              ///< ops that are queued from now on are captured, and do not run
  void* (*end)() = nullptr;               ///< the captured graph, for replay()
  void (*cancel)() noexcept = nullptr;    ///< instead of end()
  bool (*replay)(void* graph) = nullptr;  ///< launches it; false, and nothing, where generation() has changed since
  void (*destroy)(void* graph) noexcept = nullptr;
  std::uint64_t (*generation)() = nullptr;  ///< changes whenever memory is allocated or freed
};

}  // namespace slipway
