#include "kernels/cuda/cuda_stream.cuh"

#include <thread>

namespace slipway::cuda {
namespace {

/// Callbacks for waits of the host that may depend on other processes.
struct WaitCallbacks {
  void (*poll)() = nullptr;
  void (*on_begin)() = nullptr;
  void (*on_end)() = nullptr;

  /// Calls `on_begin` and `on_end`.
  struct Scope {
    Scope();
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
  };
} wait_callbacks;

WaitCallbacks::Scope::Scope() {
  if (wait_callbacks.on_begin != nullptr) wait_callbacks.on_begin();
}
WaitCallbacks::Scope::~Scope() {
  if (wait_callbacks.on_end != nullptr) wait_callbacks.on_end();
}

/// Waits until `query()` returns something other than cudaErrorNotReady, and polls for lost peers meanwhile.
template <class Query>
void wait_and_poll(const char* what, const Query& query) {
  const WaitCallbacks::Scope scope;
  for (;;) {
    const cudaError_t status = query();
    if (status != cudaErrorNotReady) return check(what, status);
    wait_callbacks.poll();
    std::this_thread::yield();
  }
}

}  // namespace

/// Freeing the old buffer waits for pending work, which may use it.
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
  synchronize();
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
  static CudaStream& instance = *new CudaStream;  // never destroyed: memory is freed as late as the program's end
  return instance;
}
CudaStream& copy_stream() {
  static CudaStream& instance = *new CudaStream;
  return instance;
}
CudaStream& comm_stream() {
  static CudaStream& instance = *new CudaStream;
  return instance;
}

namespace {

struct CallStatus {
  const char* call;
  cudaError_t error;
};
CallStatus enqueue_wait(const CudaStream& waiter, const CudaStream& dependency) noexcept {
  static cudaEvent_t event = nullptr;
  cudaError_t error = event != nullptr ? cudaSuccess : cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  if (error != cudaSuccess) return {"cudaEventCreateWithFlags", error};
  error = cudaEventRecord(event, dependency.stream());
  if (error != cudaSuccess) return {"cudaEventRecord", error};
  return {"cudaStreamWaitEvent", cudaStreamWaitEvent(waiter.stream(), event, 0)};
}

}  // namespace

void wait_stream(const CudaStream& waiter, const CudaStream& dependency) {
  const CallStatus status = enqueue_wait(waiter, dependency);
  check(status.call, status.error);
}
void try_wait_stream(const CudaStream& waiter, const CudaStream& dependency) noexcept {
  enqueue_wait(waiter, dependency);
}

void set_wait_poll(void (*poll)()) { wait_callbacks.poll = poll; }
void set_wait_callbacks(void (*on_begin)(), void (*on_end)()) {
  wait_callbacks.on_begin = on_begin, wait_callbacks.on_end = on_end;
}

void CudaStream::synchronize() {
  if (wait_callbacks.poll == nullptr) return check("cudaStreamSynchronize", cudaStreamSynchronize(stream_));
  wait_and_poll("cudaStreamQuery", [this] { return cudaStreamQuery(stream_); });
}

EventPool& event_pool() {
  static EventPool& instance = *new EventPool;  // never destroyed: memory is freed as late as the program's end
  return instance;
}

/// An event is reused only after it has completed, so an id too old to have an event is complete.
EventId EventPool::record(const CudaStream& queue) {
  const EventId id = ++last_;
  cudaEvent_t& event = events_[id % kEvents];
  if (event == nullptr) check("cudaEventCreateWithFlags", cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  else if (cudaEventQuery(event) != cudaSuccess) wait(event);
  check("cudaEventRecord", cudaEventRecord(event, queue.stream()));
  return id;
}

void EventPool::synchronize(EventId id) {
  if (const cudaEvent_t event = event_of(id); event != nullptr) wait(event);
}

void EventPool::stream_wait(const CudaStream& queue, EventId id) {
  if (const cudaEvent_t event = event_of(id); event != nullptr)
    check("cudaStreamWaitEvent", cudaStreamWaitEvent(queue.stream(), event, 0));
}

cudaEvent_t EventPool::event_of(EventId id) const {
  return id == 0 || id + kEvents <= last_ ? nullptr : events_[id % kEvents];
}

void EventPool::wait(cudaEvent_t event) {
  if (wait_callbacks.poll == nullptr) return check("cudaEventSynchronize", cudaEventSynchronize(event));
  wait_and_poll("cudaEventQuery", [event] { return cudaEventQuery(event); });
}

}  // namespace slipway::cuda
