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

/// Until `state()` says that it has happened, looking after lost peers meanwhile.
template <class State>
void wait_watching(const char* what, const State& state) {
  const Waits::Told told;
  for (;;) {
    const cudaError_t now = state();
    if (now != cudaErrorNotReady) return check(what, now);
    waits.look();
    std::this_thread::yield();
  }
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
Queue& copy_queue() {
  static Queue& only = *new Queue;
  return only;
}
Queue& side_queue() {
  static Queue& only = *new Queue;
  return only;
}

namespace {

struct Outcome {
  const char* call;
  cudaError_t error;
};
Outcome followed(const Queue& later, const Queue& earlier) noexcept {
  static cudaEvent_t event = nullptr;
  cudaError_t error = event != nullptr ? cudaSuccess : cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  if (error != cudaSuccess) return {"cudaEventCreateWithFlags", error};
  error = cudaEventRecord(event, earlier.stream());
  if (error != cudaSuccess) return {"cudaEventRecord", error};
  return {"cudaStreamWaitEvent", cudaStreamWaitEvent(later.stream(), event, 0)};
}

}  // namespace

void follow(const Queue& later, const Queue& earlier) {
  const Outcome outcome = followed(later, earlier);
  check(outcome.call, outcome.error);
}
void follow_if_able(const Queue& later, const Queue& earlier) noexcept { followed(later, earlier); }

void watch_while_waiting(void (*look)()) { waits.look = look; }
void tell_of_waits(void (*begins)(), void (*ends)()) { waits.begins = begins, waits.ends = ends; }

void Queue::finish() {
  if (waits.look == nullptr) return check("cudaStreamSynchronize", cudaStreamSynchronize(stream_));
  wait_watching("cudaStreamQuery", [this] { return cudaStreamQuery(stream_); });
}

Marks& marks() {
  static Marks& only = *new Marks;  // for whoever gives memory back when the program ends
  return only;
}

/// An event is recorded anew only when it has happened: so marks that are too old to have one have been reached.
Mark Marks::after(const Queue& queue) {
  const Mark mark = ++last_;
  cudaEvent_t& event = events_[mark % kEvents];
  if (event == nullptr) check("cudaEventCreateWithFlags", cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  else if (cudaEventQuery(event) != cudaSuccess) wait(event);
  check("cudaEventRecord", cudaEventRecord(event, queue.stream()));
  return mark;
}

void Marks::wait_for(Mark mark) {
  if (const cudaEvent_t event = event_of(mark); event != nullptr) wait(event);
}

void Marks::hold(const Queue& queue, Mark mark) {
  if (const cudaEvent_t event = event_of(mark); event != nullptr)
    check("cudaStreamWaitEvent", cudaStreamWaitEvent(queue.stream(), event, 0));
}

cudaEvent_t Marks::event_of(Mark mark) const {
  return mark == 0 || mark + kEvents <= last_ ? nullptr : events_[mark % kEvents];
}

void Marks::wait(cudaEvent_t event) {
  if (waits.look == nullptr) return check("cudaEventSynchronize", cudaEventSynchronize(event));
  wait_watching("cudaEventQuery", [event] { return cudaEventQuery(event); });
}

}  // namespace slipway::cuda
