// What a Stream's handle is on a GPU: a CUDA stream, and memory for what its kernels pass on among themselves.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "kernels/cuda/launch.cuh"
#include "kernels/stream.hpp"

namespace slipway::cuda {

/// A CUDA stream with scratch memory. Work in it runs in order, so one scratch serves it all.
class Queue {
 public:
  Queue();
  ~Queue();
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  cudaStream_t stream() const { return stream_; }
  /// At least `bytes`, until the next call. Grows; after the largest op has run once it does so no more.
  void* scratch(std::size_t bytes);
  template <class T>
  T* scratch_of(std::size_t count) {
    return static_cast<T*>(scratch(count * sizeof(T)));
  }
  /// Waits until everything queued so far has ended. Errors: Fault::kDevice with CUDA's words.
  void finish();

 private:
  cudaStream_t stream_ = nullptr;
  void* scratch_ = nullptr;
  std::size_t scratch_bytes_ = 0;
};

inline Queue& queue_of(const Stream& stream) { return *static_cast<Queue*>(stream.handle); }

}  // namespace slipway::cuda
