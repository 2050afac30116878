// Emulated streams and events: work stays queued until something waits for it, so that an order that only happens to
// hold on a GPU does not hold here.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace slipway::cuda_emulation {

/// When queued work runs. The environment variable SLIPWAY_STREAMS=late|shuffled:SEED|eager sets it.
struct StreamOrder {
  enum Kind {
    kLate,      ///< only when waited for, with only the work of other streams that this depends on
    kShuffled,  ///< when something is waited for, the next task of a random stream
    kEager      ///< at once
  } kind = kLate;
  std::uint64_t seed = 1;
};
void set_stream_order(StreamOrder order);

cudaStream_t create_stream();
/// Completes the stream's work first, as CUDA does.
void destroy_stream(cudaStream_t stream);
cudaEvent_t create_event(bool timed);
void destroy_event(cudaEvent_t event);

/// Appends work. Device memory is accessible while it runs.
void enqueue(cudaStream_t stream, std::function<void()> work);
void record(cudaEvent_t event, cudaStream_t stream);
void stream_wait_event(cudaStream_t stream, cudaEvent_t event);

/// From now on work for `stream`, and for streams that wait for an event recorded in it, is captured instead of run.
void begin_capture(cudaStream_t stream);
/// The captured work, in order. `all_joined` is false when the origin has not joined all streams of the capture.
struct CapturedWork {
  bool all_joined = false;
  std::vector<std::function<void()>> work;
};
CapturedWork end_capture(cudaStream_t stream);
bool is_capturing();  ///< whether any stream is under capture

/// From now on queued work does not run, and every call reports cudaErrorIllegalAddress, as after a kernel that
/// accessed an invalid address. SLIPWAY_HOST_DEVICE_FAILS=N or N@RANK does it at the Nth kernel.
void inject_device_loss();
bool device_is_lost();

void synchronize(cudaStream_t stream);
void synchronize(cudaEvent_t event);
void device_synchronize();
/// Whether all work is complete. Each call runs some tasks, so that a loop that polls makes progress.
bool query(cudaStream_t stream);
bool query(cudaEvent_t event);
/// Runs one task of any stream that is not blocked, as a GPU runs while the host waits for something else.
/// Returns whether there was one.
bool make_progress();
/// The time in seconds of the event's last record; negative when it was not timed or has not happened.
double record_time_s(cudaEvent_t event);

}  // namespace slipway::cuda_emulation
