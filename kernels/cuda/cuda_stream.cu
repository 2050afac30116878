#include "kernels/cuda/cuda_stream.cuh"

#include <thread>

namespace slipway::cuda {
namespace {

/// How the host waits where it may wait for other processes too.
struct Waits {
  void (*poll)() = nullptr;
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

/// Until `state()` says that it has happened, looking after lost peers meanwhile.
template <class State>
void wait_watching(const char* what, const State& state) {
  const Waits::Told told;
  for (;;) {
    const cudaError_t now = state();
    if (now != cudaErrorNotReady) return check(what, now);
    waits.poll();
    std::this_thread::yield();
  }
}

}  // namespace

/// Giving back waits until work under way, which may use the old memory, has ended.
void* GrowableBuffer::reserve(const char* what, std::size_t bytes) {
  if (bytes <= bytes_) return memory_;
  release();
  memory_ = allocate_uninitialized(what, bytes);
  bytes_ = bytes;
  return memory_;
}

void GrowableBuffer::release() {
  deallocate(memory_);
  memory_ = nullptr, bytes_ = 0;
}

void CudaStream::release() {
  finish();
  scratch_.release();
  workspace_.release();
}

CudaStream::CudaStream() {
  check("cudaStreamCreateWithFlags", cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
}

CudaStream::~CudaStream() {
  cudaStreamSynchronize(stream_);
  cudaStreamDestroy(stream_);
}

CudaStream& main_stream() {
  static CudaStream& only = *new CudaStream;  // never destroyed: memory is freed as late as the program's end
  return only;
}
CudaStream& copy_stream() {
  static CudaStream& only = *new CudaStream;
  return only;
}
CudaStream& comm_stream() {
  static CudaStream& only = *new CudaStream;
  return only;
}

namespace {

struct Outcome {
  const char* call;
  cudaError_t error;
};
Outcome followed(const CudaStream& later, const CudaStream& earlier) noexcept {
  static cudaEvent_t event = nullptr;
  cudaError_t error = event != nullptr ? cudaSuccess : cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  if (error != cudaSuccess) return {"cudaEventCreateWithFlags", error};
  error = cudaEventRecord(event, earlier.stream());
  if (error != cudaSuccess) return {"cudaEventRecord", error};
  return {"cudaStreamWaitEvent", cudaStreamWaitEvent(later.stream(), event, 0)};
}

}  // namespace

void wait_stream(const CudaStream& later, const CudaStream& earlier) {
  const Outcome outcome = followed(later, earlier);
  check(outcome.call, outcome.error);
}
void try_wait_stream(const CudaStream& later, const CudaStream& earlier) noexcept { followed(later, earlier); }

void watch_while_waiting(void (*poll)()) { waits.poll = poll; }
void tell_of_waits(void (*begins)(), void (*ends)()) { waits.begins = begins, waits.ends = ends; }

void CudaStream::finish() {
  if (waits.poll == nullptr) return check("cudaStreamSynchronize", cudaStreamSynchronize(stream_));
  wait_watching("cudaStreamQuery", [this] { return cudaStreamQuery(stream_); });
}

EventPool& event_pool() {
  static EventPool& only = *new EventPool;  // never destroyed: memory is freed as late as the program's end
  return only;
}

/// An event is reused only when it is complete: an id that is too old to have an event is complete.
EventId EventPool::after(const CudaStream& queue) {
  const EventId mark = ++last_;
  cudaEvent_t& event = events_[mark % kEvents];
  if (event == nullptr) check("cudaEventCreateWithFlags", cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  else if (cudaEventQuery(event) != cudaSuccess) wait(event);
  check("cudaEventRecord", cudaEventRecord(event, queue.stream()));
  return mark;
}

void EventPool::wait_for(EventId mark) {
  if (const cudaEvent_t event = event_of(mark); event != nullptr) wait(event);
}

void EventPool::hold(const CudaStream& queue, EventId mark) {
  if (const cudaEvent_t event = event_of(mark); event != nullptr)
    check("cudaStreamWaitEvent", cudaStreamWaitEvent(queue.stream(), event, 0));
}

cudaEvent_t EventPool::event_of(EventId mark) const {
  return mark == 0 || mark + kEvents <= last_ ? nullptr : events_[mark % kEvents];
}

void EventPool::wait(cudaEvent_t event) {
  if (waits.poll == nullptr) return check("cudaEventSynchronize", cudaEventSynchronize(event));
  wait_watching("cudaEventQuery", [event] { return cudaEventQuery(event); });
}

}  // namespace slipway::cuda
