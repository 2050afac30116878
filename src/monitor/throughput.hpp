// Step times, and the rates derived from them: tokens per second, MFU, ETA.
#pragma once

#include <deque>

#include "src/monitor/metrics.hpp"

namespace slipway {

/// Times the steps of a run. A step's time is the wall time since the last step ended, minus the time passed to
/// exclude().
class Throughput {
 public:
  /// `step_flops`: operations of one step, all ranks; `peak_flops`: peak operations per second of all ranks together.
  Throughput(double step_flops, double peak_flops);

  /// The first step begins now.
  void start();

  /// A step has ended: fills the record's rates.
  /// MFU is at most 1: when the mean rate of the last steps exceeds the peak, it becomes the peak.
  void measure(StepRecord& record);

  /// Estimated from the last steps and the last validation. `remaining_validations`: validations during the remaining
  /// steps.
  double estimate_eta_s(std::int64_t remaining_steps, std::int64_t remaining_validations) const;

  /// Excludes `seconds` since the last step ended from step times: a save, a sample, a profile.
  void exclude(double seconds) { last_end_s_ += seconds; }
  /// The same for a validation, whose time counts for estimate_eta_s().
  void exclude_validation(double seconds);

  double longest_step_s() const { return longest_step_s_; }
  double longest_validation_s() const { return longest_validation_s_; }
  /// Operations per second that MFU is relative to: the given peak, or the best rate that the run has reached if that
  /// is higher.
  double peak_flops() const { return peak_flops_; }

 private:
  double step_flops_, peak_flops_;
  double last_end_s_;
  double longest_step_s_ = 0, longest_validation_s_ = 0, mean_step_s_ = 0;
  double validation_s_ = 0;      ///< time of the last validation
  std::deque<double> recent_s_;  ///< times of the last steps
};

}  // namespace slipway
