// Statistics of a step (loss sums, gradient norm, first non-finite element): kept on the device, copied to the host
// asynchronously.
#pragma once

#include <cstdint>
#include <span>

#include "src/core/tensor.hpp"

namespace slipway {

/// Statistics that were copied to the host; the spans stay valid until the second copy_to_host_async() from now.
struct StepStatsView {
  double grad_norm = 0;                ///< L2 of the gradient, before clipping
  float clip_coef = 1;                 ///< factor that the gradient was multiplied by; NaN: the step updated nothing
  std::int64_t first_non_finite = -1;  ///< index of this rank's first element that is not finite; -1: none
  std::span<const double> loss_sums;   ///< in nats, of all micro-batches of the step, in order
};

/// Statistics of the step in progress, and of the previous one, which is being copied to the host.
class StepStats {
 public:
  /// `micro_batches`: per step, over all ranks.
  StepStats(int micro_batches, MemorySpace& space);

  // Device addresses to which ops of the step in progress write.
  double* grad_norm() { return current().on_device.data(); }
  float* clip_coef() { return reinterpret_cast<float*>(current().on_device.data() + 1); }
  std::int64_t* first_non_finite() { return reinterpret_cast<std::int64_t*>(current().on_device.data() + 2); }
  std::span<double> loss_sums() { return current().on_device.span().subspan(kNumScalars); }
  /// Kept from step to step: once NaN, it stays NaN, and no later step updates anything.
  float* sticky_clip_coef() { return sticky_coef_.data(); }

  /// Call when all ops that write the step's statistics are queued: starts their copy to the host, and switches to the
  /// next step's set.
  void copy_to_host_async();
  /// Returns the statistics of the earliest step that was copied and not yet read. Waits for the copy.
  StepStatsView read();
  /// Discards pending copies, and resets sticky_clip_coef() to 1.
  void reset();

 private:
  static constexpr std::size_t kNumScalars = 3;  // grad_norm, clip_coef, first_non_finite
  struct Buffers {
    Buffer<double> on_device, on_host;
    MemorySpace::Event copy_done = 0;
  };
  Buffers& current() { return buffers_[steps_copied_ % 2]; }

  MemorySpace& space_;
  Buffers buffers_[2];
  Buffer<float> sticky_coef_;
  std::uint64_t steps_copied_ = 0, steps_read_ = 0;
};

}  // namespace slipway
