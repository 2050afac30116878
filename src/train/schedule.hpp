// The learning rate as a function of the step.
#pragma once

#include <cstdint>

namespace slipway {

/// How the rate goes down after its rise.
enum class Fall {
  kCosine,  ///< half a cosine from the end of the rise to the horizon
  kWsd,     ///< warm-up, stable, decay: the peak until `decay` steps before the horizon, then 1 - sqrt(share done)
};

/// Linear rise to `peak` over `warmup` steps, then down to `floor * peak` at `horizon`, then the floor.
///
/// Units    steps counted from 0: step s uses lr(s).
/// Source   Loshchilov and Hutter, "SGDR", 2017, without restarts; warm-up as (s + 1) / warmup. kWsd: Hu et al., 2024,
///          "MiniCPM", with the fall of Haegele et al., "Scaling laws and compute-optimal training beyond fixed
///          training durations", 2024: 1 - sqrt over a fifth of the steps does better than a line, and as well as a
///          cosine.
struct Schedule {
  double peak = 0;
  double floor = 0;  ///< share of the peak
  std::int64_t warmup = 0;
  std::int64_t horizon = 0;
  Fall fall = Fall::kCosine;
  std::int64_t decay = 0;  ///< of kWsd: the last steps before the horizon

  double lr(std::int64_t step) const;
};

}  // namespace slipway
