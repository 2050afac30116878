// Where work for a GPU waits: a CUDA stream, and memory for what its kernels pass on among themselves.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/backend/stream.hpp"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/memory.cuh"
#include "kernels/scratch.hpp"

namespace slipway::cuda {

/// Device memory that grows to what is asked of it.
class GrowableBuffer {
 public:
  GrowableBuffer() = default;
  ~GrowableBuffer() { deallocate(memory_); }
  GrowableBuffer(const GrowableBuffer&) = delete;
  GrowableBuffer& operator=(const GrowableBuffer&) = delete;
  /// At least `bytes`; what was there before may be gone.
  void* reserve(const char* what, std::size_t bytes);
  void release();

 private:
  void* memory_ = nullptr;
  std::size_t bytes_ = 0;
};

/// A CUDA stream with memory for the kernels in it. Work in a stream runs in order, so one of each serves it all.
class CudaStream {
 public:
  CudaStream();
  ~CudaStream();
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  cudaStream_t stream() const { return stream_; }
  /// For what an op passes on among its kernels, until the next call. Grows; after the largest op has run it does no
  /// more.
  void* scratch(std::size_t bytes) { return scratch_.reserve("scratch memory of a stream", bytes); }
  template <class T, class Op>
  T* scratch_for(const Op& op) {
    return static_cast<T*>(scratch(scratch_bytes(op)));
  }
  /// For the library of products, beside scratch.
  void* workspace(std::size_t bytes) { return workspace_.reserve("workspace of products", bytes); }
  /// Gives back scratch and workspace, when what uses them has ended.
  void release();
  /// Waits until everything queued so far has ended. Errors: Fault::kDevice with CUDA's words.
  void finish();

 private:
  cudaStream_t stream_ = nullptr;
  GrowableBuffer scratch_, workspace_;
};

/// Sets a function that is polled while the host waits for a stream; it throws when waiting has become useless.
void watch_while_waiting(void (*poll)());
/// What is called when such a wait begins and when it has ended.
void tell_of_waits(void (*begins)(), void (*ends)());

/// The queue of a Stream without a handle, and of the device's MemorySpace: what the host asks for happens in order.
CudaStream& main_stream();

CudaStream& copy_stream();  ///< of copies that travel beside the main queue's ops
CudaStream& comm_stream();  ///< of messages that travel beside them

/// Work queued in `later` from now on waits for all work queued in `earlier` so far. May be captured in a graph.
void wait_stream(const CudaStream& later, const CudaStream& earlier);
/// The same where nothing may be thrown: a GPU that refuses it has failed and runs nothing more, in no order.
void try_wait_stream(const CudaStream& later, const CudaStream& earlier) noexcept;

/// Events in the queues, by number.
using EventId = std::uint64_t;
class EventPool {
 public:
  EventId after(const CudaStream& queue);            ///< what was queued there so far
  void wait_for(EventId mark);                       ///< by the host
  void hold(const CudaStream& queue, EventId mark);  ///< what is queued there from now on waits

 private:
  static constexpr std::size_t kEvents = 256;
  cudaEvent_t event_of(EventId mark) const;  ///< null: it has been reached
  static void wait(cudaEvent_t event);

  cudaEvent_t events_[kEvents] = {};
  EventId last_ = 0;
};
EventPool& event_pool();

inline CudaStream& cuda_stream_of(const Stream& stream) {
  return stream.handle == nullptr ? main_stream() : *static_cast<CudaStream*>(stream.handle);
}

}  // namespace slipway::cuda
