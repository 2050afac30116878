#include "src/train/schedule.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace slipway {

double Schedule::lr(std::int64_t step) const {
  if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
  const double length = static_cast<double>(std::max<std::int64_t>(1, horizon - warmup));
  const double progress = std::clamp(static_cast<double>(step - warmup) / length, 0.0, 1.0);
  return peak * (floor + (1.0 - floor) * 0.5 * (1.0 + std::cos(std::numbers::pi * progress)));
}

}  // namespace slipway
