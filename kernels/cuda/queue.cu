#include "kernels/cuda/queue.cuh"

namespace slipway::cuda {

/// cudaFree waits until work under way, which may use the old memory, has ended.
void* Room::fit(const char* what, std::size_t bytes) {
  if (bytes <= bytes_) return memory_;
  check("cudaFree", cudaFree(memory_));
  memory_ = nullptr, bytes_ = 0;
  check(what, cudaMalloc(&memory_, bytes));
  bytes_ = bytes;
  return memory_;
}

Queue::Queue() { check("cudaStreamCreateWithFlags", cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }

Queue::~Queue() {
  cudaStreamSynchronize(stream_);
  cudaStreamDestroy(stream_);
}

Queue& main_queue() {
  static Queue& only = *new Queue;  // for whoever gives memory back when the program ends
  return only;
}

void Queue::finish() { check("cudaStreamSynchronize", cudaStreamSynchronize(stream_)); }

}  // namespace slipway::cuda
