#include "src/monitor/throughput.hpp"

#include <algorithm>
#include <numeric>

#include "src/core/clock.hpp"

namespace slipway {

constexpr std::size_t kRecentSteps = 20;
constexpr std::size_t kMinPeakSteps = 5;  // on a GPU two reports may arrive at once, so that a step seems instant

Throughput::Throughput(double step_flops, double peak_flops)
    : step_flops_(step_flops), peak_flops_(peak_flops), last_end_s_(now_s()) {}

void Throughput::start() { last_end_s_ = now_s(); }

void Throughput::exclude_validation(double seconds) {
  validation_s_ = seconds;
  longest_validation_s_ = std::max(longest_validation_s_, seconds);
  exclude(seconds);
}

void Throughput::measure(StepRecord& record) {
  constexpr double kMinStep_s = 1e-9;
  const double end_s = now_s(), step_s = std::max(kMinStep_s, end_s - last_end_s_);
  last_end_s_ = end_s;
  longest_step_s_ = std::max(longest_step_s_, step_s);
  recent_s_.push_back(step_s);
  if (recent_s_.size() > kRecentSteps) recent_s_.pop_front();

  mean_step_s_ = std::accumulate(recent_s_.begin(), recent_s_.end(), 0.0) / static_cast<double>(recent_s_.size());
  record.tokens_per_s = static_cast<double>(record.report.targets) / step_s;
  if (peak_flops_ <= 0) return;
  if (recent_s_.size() >= kMinPeakSteps) peak_flops_ = std::max(peak_flops_, step_flops_ / mean_step_s_);
  record.mfu = std::min(1.0, step_flops_ / step_s / peak_flops_);
}

double Throughput::estimate_eta_s(std::int64_t remaining_steps, std::int64_t remaining_validations) const {
  return mean_step_s_ * static_cast<double>(remaining_steps) +
         validation_s_ * static_cast<double>(remaining_validations);
}

}  // namespace slipway
