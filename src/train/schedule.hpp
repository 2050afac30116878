// The learning rate as a function of the step.
#pragma once

#include <cstdint>

namespace slipway {

/// Linear rise to `peak` over `warmup` steps, then half a cosine down to `floor * peak` at `horizon`, then the floor.
///
/// Units    steps counted from 0: step s uses lr(s).
/// Source   Loshchilov and Hutter, "SGDR", 2017, without restarts; warm-up as (s + 1) / warmup.
struct Schedule {
  double peak = 0;
  double floor = 0;  ///< share of the peak
  std::int64_t warmup = 0;
  std::int64_t horizon = 0;

  double lr(std::int64_t step) const;
};

}  // namespace slipway
