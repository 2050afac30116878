#include "tests/support/cuda_on_host/streams.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <random>
#include <string_view>
#include <vector>

#include "tests/support/cuda_on_host/environment.hpp"
#include "tests/support/cuda_on_host/lanes.hpp"
#include "tests/support/cuda_on_host/memory.hpp"

namespace {

/// What an event has seen; pieces of work keep it alive beyond its handle.
struct EventState {
  std::uint64_t recorded = 0, happened = 0;  // counts of records asked for, and of those that were passed
  cudaStream_t stream = nullptr;             // of the last record
  bool timed = false;
  double at_s = -1;
};

struct Piece {
  enum Kind { kWork, kRecord, kWait } kind = kWork;
  std::function<void()> work;
  std::shared_ptr<EventState> event;
  std::uint64_t version = 0;  // of the event's records
};

}  // namespace

struct CUstream_st {
  std::deque<Piece> pieces;
};
struct CUevent_st {
  std::shared_ptr<EventState> state = std::make_shared<EventState>();
};

namespace slipway::cuda_on_host {
namespace {

StreamOrder order_of_environment() {
  const Wish wish = wish_of("SLIPWAY_STREAMS", {"late", "shuffled", "eager"});  // as StreamOrder::Kind has them
  return {static_cast<StreamOrder::Kind>(wish.word), wish.seed};
}

/// All streams of the process, and who is next.
struct Streams {
  std::vector<cudaStream_t> all;
  StreamOrder order = order_of_environment();
  std::mt19937_64 dice{order.seed};
};
Streams& streams() {
  static Streams& only = *new Streams;  // for whoever drops a stream when the program ends
  return only;
}

bool blocked(const CUstream_st& stream) {
  const Piece& next = stream.pieces.front();
  return next.kind == Piece::kWait && next.event->happened < next.version;
}

double now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// The next piece of a stream, or of the one that it waits for.
void advance(CUstream_st& stream) {
  if (blocked(stream)) return advance(*stream.pieces.front().event->stream);
  const Piece piece = std::move(stream.pieces.front());
  stream.pieces.pop_front();
  switch (piece.kind) {
    case Piece::kWork: {
      const DeviceOpen open;
      piece.work();
      break;
    }
    case Piece::kRecord:
      piece.event->happened = std::max(piece.event->happened, piece.version);
      if (piece.event->timed) piece.event->at_s = now_s();
      break;
    case Piece::kWait: break;
  }
}

/// One piece of work towards the end of `wanted`.
void step_towards(CUstream_st& wanted) {
  Streams& s = streams();
  if (s.order.kind != StreamOrder::kShuffled) return advance(wanted);
  std::vector<cudaStream_t> able;
  for (cudaStream_t one : s.all)
    if (!one->pieces.empty() && !blocked(*one)) able.push_back(one);
  advance(*able[s.dice() % able.size()]);
}

void append(cudaStream_t stream, Piece piece) {
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
  event->state->timed = timed;
  return event;
}
void drop_event(cudaEvent_t event) { delete event; }

void enqueue(cudaStream_t stream, std::function<void()> work) {
  append(stream, {Piece::kWork, std::move(work), {}, 0});
}
void record(cudaEvent_t event, cudaStream_t stream) {
  event->state->stream = stream;
  append(stream, {Piece::kRecord, {}, event->state, ++event->state->recorded});
}
void wait_in_stream(cudaStream_t stream, cudaEvent_t event) {
  append(stream, {Piece::kWait, {}, event->state, event->state->recorded});
}

void complete(cudaStream_t stream) {
  const DeviceOpen open;  // once for all of it: opening is slow
  while (!stream->pieces.empty()) step_towards(*stream);
}
void complete(cudaEvent_t event) {
  const DeviceOpen open;
  const std::uint64_t version = event->state->recorded;
  while (event->state->happened < version) step_towards(*event->state->stream);
}
void complete_all() {
  const std::vector<cudaStream_t> all = streams().all;
  for (cudaStream_t stream : all) complete(stream);
}
bool is_complete(cudaStream_t stream) {
  constexpr int kPiecesAQuestion = 16;
  const DeviceOpen open;
  for (int i = 0; i < kPiecesAQuestion && !stream->pieces.empty(); ++i) step_towards(*stream);
  return stream->pieces.empty();
}
bool is_complete(cudaEvent_t event) {
  const EventState& state = *event->state;
  if (state.happened < state.recorded) step_towards(*state.stream);
  return state.happened >= state.recorded;
}
double happened_s(cudaEvent_t event) {
  return event->state->happened == event->state->recorded ? event->state->at_s : -1;
}

}  // namespace slipway::cuda_on_host
