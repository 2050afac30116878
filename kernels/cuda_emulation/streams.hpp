// Streams and events on the CPU: work waits in its stream until somebody needs it, so that an order which only happens
// to hold on a GPU does not hold here.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace slipway::cuda_emulation {

/// When queued work runs. SLIPWAY_STREAMS=late|shuffled:SEED|eager sets it from outside.
struct StreamOrder {
  enum Kind {
    kLate,      ///< only when waited for, and of other streams only what that needs
    kShuffled,  ///< when something is waited for, any stream's next piece
    kEager      ///< at once
  } kind = kLate;
  std::uint64_t seed = 1;
};
void set_stream_order(StreamOrder order);

cudaStream_t make_stream();
/// Runs what is left in it first, as CUDA does.
void drop_stream(cudaStream_t stream);
cudaEvent_t make_event(bool timed);
void drop_event(cudaEvent_t event);

/// Appends work. Device memory is open while it runs.
void enqueue(cudaStream_t stream, std::function<void()> work);
void record(cudaEvent_t event, cudaStream_t stream);
void wait_in_stream(cudaStream_t stream, cudaEvent_t event);

/// From here on work for `stream` is noted and does not run, and so is that of streams that wait for an event recorded
/// in it.
void begin_capture(cudaStream_t stream);
/// What was noted, in order; nothing where the capture cannot be ended, since another stream has not come back.
struct Captured {
  bool whole = false;
  std::vector<std::function<void()>> work;
};
Captured end_capture(cudaStream_t stream);
bool is_capturing();  ///< any stream

/// From now on nothing that is queued runs, and every call reports cudaErrorIllegalAddress, as after a kernel that
/// followed a bad address. SLIPWAY_HOST_DEVICE_FAILS=N or N@RANK does it at the Nth kernel.
void lose_device();
bool device_is_lost();

void complete(cudaStream_t stream);
void complete(cudaEvent_t event);
void complete_all();
/// Whether all is done; each question lets some pieces of work happen, so that who asks again and again gets on.
bool is_complete(cudaStream_t stream);
bool is_complete(cudaEvent_t event);
/// A piece of work of any stream, where one can be done: a GPU goes on by itself while the host waits for something
/// else. Also says whether there was one.
bool make_progress();
/// Seconds at which the event's last record happened; negative when it was not timed or has not happened.
double happened_s(cudaEvent_t event);

}  // namespace slipway::cuda_emulation
