// What a backend offers to whoever queues the same ops again and again (kernels/recordings.hpp).
#pragma once

#include <cstdint>

namespace slipway {

/// Errors   Fault::kDevice in the library's words.
struct Recorder {
  void (*begin)() = nullptr;                  ///< ops that are asked for from now on are noted, and do not run
  void* (*end)() = nullptr;                   ///< what was noted, for replay()
  void (*cancel)() noexcept = nullptr;        ///< instead of end()
  bool (*replay)(void* recording) = nullptr;  ///< queues it; false, and nothing, where generation() has changed since
  void (*drop)(void* recording) noexcept = nullptr;
  std::uint64_t (*generation)() = nullptr;  ///< another number whenever memory was taken or given back
};

}  // namespace slipway
