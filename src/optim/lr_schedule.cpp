#include "src/optim/lr_schedule.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace slipway {

double LrSchedule::lr(std::int64_t step) const {
  if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
  if (step >= horizon) return peak * floor;
  const std::int64_t begin = decay_shape == DecayShape::kWsd ? horizon - decay : warmup;
  const double progress = std::max(0.0, static_cast<double>(step - begin) / static_cast<double>(horizon - begin));
  const double remaining =
      decay_shape == DecayShape::kWsd ? 1.0 - std::sqrt(progress) : 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  return peak * (floor + (1.0 - floor) * remaining);
}

}  // namespace slipway
