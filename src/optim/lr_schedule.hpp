// The learning rate as a function of the step.
#pragma once

#include <cstdint>

namespace slipway {

/// How the rate decays after warmup.
enum class DecayShape {
  kCosine,  ///< half a cosine from the end of warmup to the horizon
  kWsd,     ///< warm-up, stable, decay: the peak until `decay` steps before the horizon, then 1 - sqrt(share done)
};

/// Linear warmup to `peak` over `warmup` steps, then decay to `floor * peak` at `horizon`, then constant.
///
/// Units    steps counted from 0: step s uses lr(s).
/// Source   Loshchilov and Hutter, "SGDR", 2017, without restarts; warm-up as (s + 1) / warmup. kWsd: Hu et al., 2024,
///          "MiniCPM", with the decay of Haegele et al., "Scaling laws and compute-optimal training beyond fixed
///          training durations", 2024: 1 - sqrt over a fifth of the steps is better than linear decay, and as good as
///          a cosine schedule.
struct LrSchedule {
  double peak = 0;
  double floor = 0;  ///< minimum rate, as a fraction of the peak
  std::int64_t warmup = 0;
  std::int64_t horizon = 0;
  DecayShape decay_shape = DecayShape::kCosine;
  std::int64_t decay = 0;  ///< of kWsd: the last steps before the horizon

  double lr(std::int64_t step) const;
};

}  // namespace slipway
