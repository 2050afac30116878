// What a step finds about itself: kept where the ops run until somebody asks, so that no step waits for being measured.
#pragma once

#include <cstdint>
#include <span>

#include "src/core/tensor.hpp"

namespace slipway {

/// What has come to the host; the spans stay until the next but one Findings::send().
struct Found {
  double norm = 0;               ///< L2 of the gradient, before clipping
  float factor = 1;              ///< what the gradient was multiplied by; NaN: the step moved nothing
  std::int64_t first_bad = -1;   ///< this rank's first element that is not finite
  std::span<const double> nats;  ///< sums of all micro-batches of the step, in order
};

/// Numbers of the step under way, and of the one before it on their way to the host.
class Findings {
 public:
  /// `nats`: micro-batches of a step, over all ranks.
  Findings(int nats, MemorySpace& space);

  // Places for ops to write to, of the step under way.
  double* norm() { return set().there.data(); }
  float* factor() { return reinterpret_cast<float*>(set().there.data() + 1); }
  std::int64_t* first_bad() { return reinterpret_cast<std::int64_t*>(set().there.data() + 2); }
  std::span<double> nats() { return set().there.span().subspan(kFixed); }
  /// Of the steps so far: what StepFactor stops all later ones with.
  float* running_factor() { return running_.data(); }

  /// The step's numbers are all queued: they start for the host, and the places are the next step's.
  void send();
  /// Those of the earliest step that was sent and not read. Waits until they have come.
  Found read();
  /// Forgets what was sent, and that a step was stopped.
  void reset();

 private:
  static constexpr std::size_t kFixed = 3;  // norm, factor, first_bad
  struct Set {
    Buffer<double> there, here;
    MemorySpace::Mark come = 0;
  };
  Set& set() { return sets_[sent_ % 2]; }

  MemorySpace& space_;
  Set sets_[2];
  Buffer<float> running_;
  std::uint64_t sent_ = 0, read_ = 0;
};

}  // namespace slipway
