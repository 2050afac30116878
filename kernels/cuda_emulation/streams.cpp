#include "kernels/cuda_emulation/streams.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <random>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/cuda_emulation/environment.hpp"
#include "kernels/cuda_emulation/memory.hpp"
#include "kernels/cuda_emulation/thread_blocks.hpp"

namespace {

/// One record of an event: recording the event again does not affect waits for an earlier record.
struct Record {
  cudaStream_t stream = nullptr;
  bool captured = false;         ///< in a stream under capture
  std::size_t num_captured = 0;  ///< captured work of that stream before the record
  bool timed = false;
  bool is_complete = false;
  double timestamp_s = -1;
};

struct Task {
  enum Kind { kWork, kRecord, kWait } kind = kWork;
  std::function<void()> work;
  std::shared_ptr<Record> event;  // that is recorded, or waited for
};

}  // namespace

struct CUstream_st {
  std::deque<Task> tasks;
  bool captured = false;
  std::size_t num_captured = 0,
              num_joined = 0;  // its captured work, and how much of it the capture's origin has waited for
};
struct CUevent_st {
  bool timed = false;
  std::shared_ptr<Record> last_record =
      std::make_shared<Record>(Record{.is_complete = true});  // never recorded: nothing to wait for
};

namespace slipway::cuda_emulation {
namespace {

StreamOrder order_from_environment() {
  const Choice setting =
      choice_from_environment("SLIPWAY_STREAMS", {"late", "shuffled", "eager"});  // as StreamOrder::Kind has them
  return {static_cast<StreamOrder::Kind>(setting.word), setting.seed};
}

/// All streams of the process, and the order in which they run.
struct Streams {
  std::vector<cudaStream_t> all;
  StreamOrder order = order_from_environment();
  std::mt19937_64 rng{order.seed};
  std::vector<std::function<void()>> captured_ops;  // work of the current capture
  cudaStream_t origin = nullptr;                    // the stream in which the capture began
};
Streams& streams() {
  static Streams& instance = *new Streams;  // never destroyed: static objects may drop streams at exit
  return instance;
}

bool is_blocked(const CUstream_st& stream) {
  const Task& next = stream.tasks.front();
  return next.kind == Task::kWait && !next.event->is_complete;
}

double now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

bool is_executing = false;  // a task
bool is_lost = false;       // the device

/// Runs the next task of a stream, or of the stream that it waits for.
void advance(CUstream_st& stream) {
  if (is_blocked(stream)) return advance(*stream.tasks.front().event->stream);
  const Task task = std::move(stream.tasks.front());
  stream.tasks.pop_front();
  switch (task.kind) {
    case Task::kWork: {
      if (is_lost) break;
      const DeviceAccess access;
      is_executing = true;
      task.work();
      is_executing = false;
      break;
    }
    case Task::kRecord:
      task.event->is_complete = true;
      if (task.event->timed) task.event->timestamp_s = now_s();
      break;
    case Task::kWait: break;
  }
}

/// Runs one task towards the completion of `target`.
void step_towards(CUstream_st& target) {
  Streams& s = streams();
  if (s.order.kind != StreamOrder::kShuffled) return advance(target);
  std::vector<cudaStream_t> ready_streams;
  for (cudaStream_t one : s.all)
    if (!one->tasks.empty() && !is_blocked(*one)) ready_streams.push_back(one);
  advance(*ready_streams[s.rng() % ready_streams.size()]);
}

void append(cudaStream_t stream, Task task) {
  if (stream != nullptr && stream->captured) {
    if (task.kind == Task::kWork) streams().captured_ops.push_back(std::move(task.work)), ++stream->num_captured;
    return;
  }
  if (stream == nullptr)
    report_and_abort("work for the default stream, which waits for all others; give it a stream of its own");
  stream->tasks.push_back(std::move(task));
  if (streams().order.kind == StreamOrder::kEager) synchronize(stream);
}

}  // namespace

void set_stream_order(StreamOrder order) {
  device_synchronize();
  streams().order = order;
  streams().rng.seed(order.seed);
}

cudaStream_t create_stream() {
  streams().all.push_back(new CUstream_st);
  return streams().all.back();
}
void destroy_stream(cudaStream_t stream) {
  synchronize(stream);
  std::erase(streams().all, stream);
  delete stream;
}
cudaEvent_t create_event(bool timed) {
  auto* event = new CUevent_st;
  event->timed = timed;
  return event;
}
void destroy_event(cudaEvent_t event) { delete event; }

void enqueue(cudaStream_t stream, std::function<void()> work) { append(stream, {Task::kWork, std::move(work), {}}); }
void record(cudaEvent_t event, cudaStream_t stream) {
  event->last_record = std::make_shared<Record>(Record{
      .stream = stream, .captured = stream->captured, .num_captured = stream->num_captured, .timed = event->timed});
  append(stream, {Task::kRecord, {}, event->last_record});
}
void stream_wait_event(cudaStream_t stream, cudaEvent_t event) {
  Streams& s = streams();
  if (event->last_record->captured) {
    if (!is_capturing()) report_and_abort("a wait for an event of a capture that has ended");
    const Record& captured_record = *event->last_record;
    if (stream == s.origin)
      captured_record.stream->num_joined = std::max(captured_record.stream->num_joined, captured_record.num_captured);
    else if (stream != captured_record.stream) stream->captured = true, ++stream->num_captured;
    return;
  }
  if (stream->captured) report_and_abort("a stream under capture that waits for an event from outside it");
  append(stream, {Task::kWait, {}, event->last_record});
}

void begin_capture(cudaStream_t stream) {
  stream->captured = true;
  streams().origin = stream;
}
CapturedWork end_capture(cudaStream_t stream) {
  Streams& s = streams();
  const bool all_joined = std::ranges::all_of(
      s.all, [&](cudaStream_t one) { return one == stream || one->num_joined == one->num_captured; });
  CapturedWork result{all_joined && stream == s.origin, std::exchange(s.captured_ops, {})};
  s.origin = nullptr;
  for (cudaStream_t one : s.all) one->captured = false, one->num_captured = one->num_joined = 0;
  return result;
}
bool is_capturing() {
  return std::ranges::any_of(streams().all, [](cudaStream_t one) { return one->captured; });
}

void inject_device_loss() { is_lost = true; }
bool device_is_lost() { return is_lost; }

void synchronize(cudaStream_t stream) {
  const DeviceAccess access;  // once for all tasks: opening is slow
  while (!stream->tasks.empty()) step_towards(*stream);
}
void synchronize(cudaEvent_t event) {
  const DeviceAccess access;
  const std::shared_ptr<Record> last_record = event->last_record;
  while (!last_record->is_complete) step_towards(*last_record->stream);
}
void device_synchronize() {
  const std::vector<cudaStream_t> all = streams().all;
  for (cudaStream_t stream : all) synchronize(stream);
}
constexpr int kTasksPerQuery = 64;

bool query(cudaStream_t stream) {
  const DeviceAccess access;
  for (int i = 0; i < kTasksPerQuery && !stream->tasks.empty(); ++i) step_towards(*stream);
  return stream->tasks.empty();
}
bool query(cudaEvent_t event) {
  const std::shared_ptr<Record> last_record = event->last_record;
  const DeviceAccess access;
  for (int i = 0; i < kTasksPerQuery && !last_record->is_complete; ++i) step_towards(*last_record->stream);
  return last_record->is_complete;
}
bool make_progress() {
  if (is_executing) return false;
  for (cudaStream_t stream : streams().all) {
    if (stream->tasks.empty() || is_blocked(*stream)) continue;
    advance(*stream);
    return true;
  }
  return false;
}
double record_time_s(cudaEvent_t event) {
  return event->last_record->is_complete ? event->last_record->timestamp_s : -1;
}

}  // namespace slipway::cuda_emulation
