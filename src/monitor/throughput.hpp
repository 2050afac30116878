// Step times, and what follows from them: tokens per second, MFU, ETA.
#pragma once

#include <deque>

#include "src/monitor/metrics.hpp"

namespace slipway {

/// Times the steps of a run. A step's time is the wall time since the last step ended, without what was passed to
/// exclude().
class Throughput {
 public:
  /// `step_flops`: operations of one step, all ranks; `peak_flops`: what all ranks together could do in a second.
  Throughput(double step_flops, double peak_flops);

  /// The first step begins now.
  void start();

  /// A step has ended: fills the record's rates.
  /// MFU is at most 1: a rate that several steps have held is a peak that the machine has.
  void measure(StepRecord& record);

  /// By the last steps and the last validation. `validations_left`: of the steps that are left.
  double time_to_go_s(std::int64_t steps_left, std::int64_t validations_left) const;

  /// `seconds` since the last step ended belong to no step: a save, a sample, a profile.
  void exclude(double seconds) { last_end_s_ += seconds; }
  /// The same of a validation, which the time to go counts with.
  void exclude_validation(double seconds);

  double longest_step_s() const { return longest_step_s_; }
  double longest_validation_s() const { return longest_validation_s_; }
  /// Operations a second that MFU is relative to: what was given, or the best that the run has reached, if that is
  /// more.
  double peak_flops() const { return peak_flops_; }

 private:
  double step_flops_, peak_flops_;
  double last_end_s_;
  double longest_step_s_ = 0, longest_validation_s_ = 0, mean_step_s_ = 0;
  double validation_s_ = 0;      ///< of the last one
  std::deque<double> recent_s_;  ///< what the time still to go is estimated from
};

}  // namespace slipway
