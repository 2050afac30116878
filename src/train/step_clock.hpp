// How long steps take, and what follows: tokens per second, MFU, the time still to go.
#pragma once

#include <deque>

#include "src/train/metrics.hpp"

namespace slipway {

/// Watches the steps of a run from its construction on.
class StepClock {
 public:
  /// `step_flops`: operations of one step, all ranks; `peak_flops`: what all ranks together could do in a second.
  StepClock(double step_flops, double peak_flops);

  /// A step has ended: fills the record's rates. What happened since the last one (validation, a save) is in its time.
  void measure(StepRecord& record, std::int64_t steps_left);

  /// What has happened since the last step ended is no part of the next one.
  void leave_out();

  double longest_step_s() const { return longest_step_s_; }

 private:
  double step_flops_, peak_flops_;
  double last_end_s_;
  double longest_step_s_ = 0;
  std::deque<double> recent_s_;  ///< what the time still to go is estimated from
};

}  // namespace slipway
