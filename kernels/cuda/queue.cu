#include "kernels/cuda/queue.cuh"

#include <thread>

namespace slipway::cuda {
namespace {

/// How the host waits where it may wait for other processes too.
struct Waits {
  void (*look)() = nullptr;
  void (*begins)() = nullptr;
  void (*ends)() = nullptr;

  struct Told {
    Told();
    ~Told();
    Told(const Told&) = delete;
    Told& operator=(const Told&) = delete;
  };
} waits;

Waits::Told::Told() {
  if (waits.begins != nullptr) waits.begins();
}
Waits::Told::~Told() {
  if (waits.ends != nullptr) waits.ends();
}

}  // namespace

/// Giving back waits until work under way, which may use the old memory, has ended.
void* Room::fit(const char* what, std::size_t bytes) {
  if (bytes <= bytes_) return memory_;
  release();
  memory_ = take_as_it_is(what, bytes);
  bytes_ = bytes;
  return memory_;
}

void Room::release() {
  give_back(memory_);
  memory_ = nullptr, bytes_ = 0;
}

void Queue::release() {
  finish();
  scratch_.release();
  workspace_.release();
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

void watch_while_waiting(void (*look)()) { waits.look = look; }
void tell_of_waits(void (*begins)(), void (*ends)()) { waits.begins = begins, waits.ends = ends; }

void Queue::finish() {
  if (waits.look == nullptr) return check("cudaStreamSynchronize", cudaStreamSynchronize(stream_));
  const Waits::Told told;
  for (;;) {
    const cudaError_t state = cudaStreamQuery(stream_);
    if (state != cudaErrorNotReady) return check("cudaStreamQuery", state);
    waits.look();
    std::this_thread::yield();
  }
}

}  // namespace slipway::cuda
