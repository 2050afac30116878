#include "src/train/step_clock.hpp"

#include <algorithm>
#include <numeric>

#include "src/core/clock.hpp"

namespace slipway {

constexpr std::size_t kRecentSteps = 20;

StepClock::StepClock(double step_flops, double peak_flops)
    : step_flops_(step_flops), peak_flops_(peak_flops), last_end_s_(now_s()) {}

void StepClock::leave_out() { last_end_s_ = now_s(); }

void StepClock::measure(StepRecord& record, std::int64_t steps_left) {
  const double end_s = now_s(), step_s = end_s - last_end_s_;
  last_end_s_ = end_s;
  longest_step_s_ = std::max(longest_step_s_, step_s);
  recent_s_.push_back(step_s);
  if (recent_s_.size() > kRecentSteps) recent_s_.pop_front();

  const double sum_s = std::accumulate(recent_s_.begin(), recent_s_.end(), 0.0);
  record.eta_s = sum_s / static_cast<double>(recent_s_.size()) * static_cast<double>(steps_left);
  record.tokens_per_s = static_cast<double>(record.report.targets) / step_s;
  record.mfu = step_flops_ / step_s / peak_flops_;
}

}  // namespace slipway
