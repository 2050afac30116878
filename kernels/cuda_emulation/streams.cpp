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
  bool captured = false;  ///< in a stream under capture
  std::size_t noted = 0;  ///< captured work of that stream before the record
  bool timed = false;
  bool happened = false;
  double at_s = -1;
};

struct Piece {
  enum Kind { kWork, kRecord, kWait } kind = kWork;
  std::function<void()> work;
  std::shared_ptr<Record> event;  // that is recorded, or waited for
};

}  // namespace

struct CUstream_st {
  std::deque<Piece> pieces;
  bool captured = false;
  std::size_t noted = 0, joined = 0;  // its captured work, and how much of it the capture's origin has waited for
};
struct CUevent_st {
  bool timed = false;
  std::shared_ptr<Record> last =
      std::make_shared<Record>(Record{.happened = true});  // never recorded: nothing to wait for
};

namespace slipway::cuda_emulation {
namespace {

StreamOrder order_of_environment() {
  const Choice wish =
      choice_from_environment("SLIPWAY_STREAMS", {"late", "shuffled", "eager"});  // as StreamOrder::Kind has them
  return {static_cast<StreamOrder::Kind>(wish.word), wish.seed};
}

/// All streams of the process, and the order in which they run.
struct Streams {
  std::vector<cudaStream_t> all;
  StreamOrder order = order_of_environment();
  std::mt19937_64 dice{order.seed};
  std::vector<std::function<void()>> noted;  // work of the current capture
  cudaStream_t origin = nullptr;             // the stream in which the capture began
};
Streams& streams() {
  static Streams& only = *new Streams;  // never destroyed: static objects may drop streams at exit
  return only;
}

bool blocked(const CUstream_st& stream) {
  const Piece& next = stream.pieces.front();
  return next.kind == Piece::kWait && !next.event->happened;
}

double now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

bool executing = false;  // a piece of work
bool lost = false;       // the device

/// Runs the next piece of a stream, or of the stream that it waits for.
void advance(CUstream_st& stream) {
  if (blocked(stream)) return advance(*stream.pieces.front().event->stream);
  const Piece piece = std::move(stream.pieces.front());
  stream.pieces.pop_front();
  switch (piece.kind) {
    case Piece::kWork: {
      if (lost) break;
      const DeviceOpen open;
      executing = true;
      piece.work();
      executing = false;
      break;
    }
    case Piece::kRecord:
      piece.event->happened = true;
      if (piece.event->timed) piece.event->at_s = now_s();
      break;
    case Piece::kWait: break;
  }
}

/// Runs one piece towards the completion of `wanted`.
void step_towards(CUstream_st& wanted) {
  Streams& s = streams();
  if (s.order.kind != StreamOrder::kShuffled) return advance(wanted);
  std::vector<cudaStream_t> able;
  for (cudaStream_t one : s.all)
    if (!one->pieces.empty() && !blocked(*one)) able.push_back(one);
  advance(*able[s.dice() % able.size()]);
}

void append(cudaStream_t stream, Piece piece) {
  if (stream != nullptr && stream->captured) {
    if (piece.kind == Piece::kWork) streams().noted.push_back(std::move(piece.work)), ++stream->noted;
    return;
  }
  if (stream == nullptr) refuse("work for the default stream, which waits for all others; give it a stream of its own");
  stream->pieces.push_back(std::move(piece));
  if (streams().order.kind == StreamOrder::kEager) complete(stream);
}

}  // namespace

void set_stream_order(StreamOrder order) {
  complete_all();
  streams().order = order;
  streams().dice.seed(order.seed);
}

cudaStream_t make_stream() {
  streams().all.push_back(new CUstream_st);
  return streams().all.back();
}
void drop_stream(cudaStream_t stream) {
  complete(stream);
  std::erase(streams().all, stream);
  delete stream;
}
cudaEvent_t make_event(bool timed) {
  auto* event = new CUevent_st;
  event->timed = timed;
  return event;
}
void drop_event(cudaEvent_t event) { delete event; }

void enqueue(cudaStream_t stream, std::function<void()> work) { append(stream, {Piece::kWork, std::move(work), {}}); }
void record(cudaEvent_t event, cudaStream_t stream) {
  event->last = std::make_shared<Record>(
      Record{.stream = stream, .captured = stream->captured, .noted = stream->noted, .timed = event->timed});
  append(stream, {Piece::kRecord, {}, event->last});
}
void wait_in_stream(cudaStream_t stream, cudaEvent_t event) {
  Streams& s = streams();
  if (event->last->captured) {
    if (!is_capturing()) refuse("a wait for an event of a capture that has ended");
    const Record& of = *event->last;
    if (stream == s.origin) of.stream->joined = std::max(of.stream->joined, of.noted);
    else if (stream != of.stream) stream->captured = true, ++stream->noted;
    return;
  }
  if (stream->captured) refuse("a stream under capture that waits for an event from outside it");
  append(stream, {Piece::kWait, {}, event->last});
}

void begin_capture(cudaStream_t stream) {
  stream->captured = true;
  streams().origin = stream;
}
Captured end_capture(cudaStream_t stream) {
  Streams& s = streams();
  const bool joined =
      std::ranges::all_of(s.all, [&](cudaStream_t one) { return one == stream || one->joined == one->noted; });
  Captured result{joined && stream == s.origin, std::exchange(s.noted, {})};
  s.origin = nullptr;
  for (cudaStream_t one : s.all) one->captured = false, one->noted = one->joined = 0;
  return result;
}
bool is_capturing() {
  return std::ranges::any_of(streams().all, [](cudaStream_t one) { return one->captured; });
}

void inject_device_loss() { lost = true; }
bool device_is_lost() { return lost; }

void complete(cudaStream_t stream) {
  const DeviceOpen open;  // once for all pieces: opening is slow
  while (!stream->pieces.empty()) step_towards(*stream);
}
void complete(cudaEvent_t event) {
  const DeviceOpen open;
  const std::shared_ptr<Record> last = event->last;
  while (!last->happened) step_towards(*last->stream);
}
void complete_all() {
  const std::vector<cudaStream_t> all = streams().all;
  for (cudaStream_t stream : all) complete(stream);
}
constexpr int kPiecesPerQuery = 64;

bool is_complete(cudaStream_t stream) {
  const DeviceOpen open;
  for (int i = 0; i < kPiecesPerQuery && !stream->pieces.empty(); ++i) step_towards(*stream);
  return stream->pieces.empty();
}
bool is_complete(cudaEvent_t event) {
  const std::shared_ptr<Record> last = event->last;
  const DeviceOpen open;
  for (int i = 0; i < kPiecesPerQuery && !last->happened; ++i) step_towards(*last->stream);
  return last->happened;
}
bool make_progress() {
  if (executing) return false;
  for (cudaStream_t stream : streams().all) {
    if (stream->pieces.empty() || blocked(*stream)) continue;
    advance(*stream);
    return true;
  }
  return false;
}
double record_time_s(cudaEvent_t event) { return event->last->happened ? event->last->at_s : -1; }

}  // namespace slipway::cuda_emulation
