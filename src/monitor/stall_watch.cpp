#include "src/monitor/stall_watch.hpp"

#include <cmath>

namespace slipway {
namespace {

// The loss of untrained weights is 1e-3 nats or more above ln(vocabulary), and a run that learns passes ln(vocabulary)
// within a step.
constexpr double kUniformTolerance_nats = 1e-4;
constexpr std::int64_t kMaxStepsAtUniform = 5;

}  // namespace

StallWatch::StallWatch(int vocabulary, const OptimConfig& optim)
    : uniform_nats_(std::log(static_cast<double>(vocabulary))),
      peak_lr_(optim.peak_lr),
      max_grad_norm_(optim.max_grad_norm) {}

std::string StallWatch::check(const StepReport& report) {
  if (report.targets == 0) return "";  // no target tokens: no gradient is expected
  const bool is_uniform = std::abs(report.loss - uniform_nats_) <= kUniformTolerance_nats;
  steps_at_uniform_ = is_uniform ? steps_at_uniform_ + 1 : 0;
  if (has_warned_) return "";
  if (report.grad_norm == 0) {
    has_warned_ = true;
    return join("step ", report.step, ": the gradient is exactly 0 at a loss of ", report.loss,
                is_uniform ? " = ln(vocabulary)" : "", ": training is frozen; ", hint());
  }
  if (steps_at_uniform_ < kMaxStepsAtUniform) return "";
  has_warned_ = true;
  return join("step ", report.step, ": the loss has stayed at ln(vocabulary) = ", uniform_nats_, " for ",
              steps_at_uniform_, " steps, as if every token were equally likely: training is frozen; ", hint());
}

std::string StallWatch::hint() const {
  return join("go back to an earlier checkpoint or start again, with a lower optim.peak_lr (now ", peak_lr_, ")",
              max_grad_norm_ == 0 ? " and with optim.max_grad_norm = 1 (now 0, no clipping)" : "");
}

}  // namespace slipway
