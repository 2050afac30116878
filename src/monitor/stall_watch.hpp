// Notices training that goes on without learning anything.
#pragma once

#include <cstdint>
#include <string>

#include "src/config/run_config.hpp"
#include "src/monitor/step_report.hpp"

namespace slipway {

/// Looks at each step of a run for the signs of frozen training: a gradient of exactly 0, or a loss that stays at
/// ln(vocabulary), which is that of a model whose logits are all equal. Neither is an error, as every number is finite.
class StallWatch {
 public:
  StallWatch(int vocabulary, const OptimConfig& optim);

  /// A warning where the step shows such a sign for the first time, else empty.
  std::string check(const StepReport& report);

 private:
  std::string remedy() const;

  double uniform_nats_;
  double peak_lr_;
  double max_grad_norm_;
  std::int64_t steps_at_uniform_ = 0;  ///< in a row, up to now
  bool warned_ = false;
};

}  // namespace slipway
