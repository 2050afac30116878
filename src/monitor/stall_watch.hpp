// Detects training that continues without learning anything.
#pragma once

#include <cstdint>
#include <string>

#include "src/config/run_config.hpp"
#include "src/monitor/step_report.hpp"

namespace slipway {

/// Checks each step of a run for stalled training: a gradient of exactly 0, or a loss that stays at ln(vocabulary), the
/// loss of a model whose logits are all equal. Neither raises an error by itself, since all values are finite.
class StallWatch {
 public:
  StallWatch(int vocabulary, const OptimConfig& optim);

  /// A warning the first time that a step shows one of these, else empty.
  std::string check(const StepReport& report);

 private:
  std::string hint() const;

  double uniform_nats_;
  double peak_lr_;
  double max_grad_norm_;
  std::int64_t steps_at_uniform_ = 0;  ///< consecutive steps, up to the latest
  bool has_warned_ = false;
};

}  // namespace slipway
