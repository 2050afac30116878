#include "src/optim/lr_schedule.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace slipway {

double LrSchedule::lr(std::int64_t step) const {
  if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
  if (step >= horizon) return peak * floor;
  const std::int64_t begin = decay_shape == DecayShape::kWsd ? horizon - decay : warmup;
  const double done = std::max(0.0, static_cast<double>(step - begin) / static_cast<double>(horizon - begin));
  const double left =
      decay_shape == DecayShape::kWsd ? 1.0 - std::sqrt(done) : 0.5 * (1.0 + std::cos(std::numbers::pi * done));
  return peak * (floor + (1.0 - floor) * left);
}

}  // namespace slipway
