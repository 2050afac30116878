// CUDA streams with scratch memory, and events.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/backend/stream.hpp"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/memory.cuh"
#include "kernels/scratch.hpp"

namespace slipway::cuda {

/// Device memory that grows to the largest size requested.
class GrowableBuffer {
 public:
  GrowableBuffer() = default;
  ~GrowableBuffer() { deallocate(memory_); }
  GrowableBuffer(const GrowableBuffer&) = delete;
  GrowableBuffer& operator=(const GrowableBuffer&) = delete;
  /// At least `bytes`; growing discards the contents.
  void* reserve(const char* what, std::size_t bytes);
  void release();

 private:
  void* memory_ = nullptr;
  std::size_t bytes_ = 0;
};

/// A CUDA stream with scratch memory for its kernels. Work in a stream runs in order, so all ops share one buffer.
class CudaStream {
 public:
  CudaStream();
  ~CudaStream();
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  cudaStream_t stream() const { return stream_; }
  /// Temporary memory of an op's kernels, valid until the next call. Stops growing once the largest op has run.
  void* scratch(std::size_t bytes) { return scratch_.reserve("the scratch memory of a stream", bytes); }
  template <class T, class Op>
  T* scratch_for(const Op& op) {
    return static_cast<T*>(scratch(scratch_bytes(op)));
  }
  /// The workspace of cublasLt, separate from scratch.
  void* workspace(std::size_t bytes) { return workspace_.reserve("the workspace of matmuls", bytes); }
  /// Frees scratch and workspace, after pending work.
  void release();
  /// Waits for all pending work. Errors: Fault::kDevice with CUDA's message.
  void synchronize();

 private:
  cudaStream_t stream_ = nullptr;
  GrowableBuffer scratch_, workspace_;
};

/// Sets a function that is polled while the host waits for a stream; it throws when a peer is lost.
void set_wait_poll(void (*poll)());
/// Sets functions that are called when such a wait begins and ends.
void set_wait_callbacks(void (*on_begin)(), void (*on_end)());

/// The stream of ops whose Stream has no handle, and of the device's MemorySpace.
CudaStream& main_stream();

CudaStream& copy_stream();  ///< copies that overlap with the ops of the main stream
CudaStream& comm_stream();  ///< collectives that overlap with them

/// Work queued in `waiter` from now on waits for all work queued in `dependency` so far. May be captured in a graph.
void wait_stream(const CudaStream& waiter, const CudaStream& dependency);
/// The same without exceptions: when a call fails the GPU has failed, and no work runs any more.
void try_wait_stream(const CudaStream& waiter, const CudaStream& dependency) noexcept;

/// CUDA events by id; ids increase.
using EventId = std::uint64_t;
class EventPool {
 public:
  EventId record(const CudaStream& queue);                ///< records an event after the work queued so far
  void synchronize(EventId id);                           ///< the host waits
  void stream_wait(const CudaStream& queue, EventId id);  ///< work queued from now on waits

 private:
  static constexpr std::size_t kEvents = 256;
  cudaEvent_t event_of(EventId id) const;  ///< null: it is complete
  static void wait(cudaEvent_t event);

  cudaEvent_t events_[kEvents] = {};
  EventId last_ = 0;
};
EventPool& event_pool();

inline CudaStream& cuda_stream_of(const Stream& stream) {
  return stream.handle == nullptr ? main_stream() : *static_cast<CudaStream*>(stream.handle);
}

}  // namespace slipway::cuda
