#include "kernels/cuda/queue.cuh"

namespace slipway::cuda {

Queue::Queue() { check("cudaStreamCreateWithFlags", cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }

Queue::~Queue() {
  cudaStreamSynchronize(stream_);
  cudaFree(scratch_);
  cudaStreamDestroy(stream_);
}

void* Queue::scratch(std::size_t bytes) {
  if (bytes <= scratch_bytes_) return scratch_;
  finish();
  check("cudaFree", cudaFree(scratch_));
  scratch_ = nullptr, scratch_bytes_ = 0;
  check("scratch memory of a stream", cudaMalloc(&scratch_, bytes));
  scratch_bytes_ = bytes;
  return scratch_;
}

void Queue::finish() { check("cudaStreamSynchronize", cudaStreamSynchronize(stream_)); }

}  // namespace slipway::cuda
