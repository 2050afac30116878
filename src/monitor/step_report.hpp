// The report of a training step.
#pragma once

#include <cstdint>
#include <string>

namespace slipway {

/// Results of one optimizer step; equal on all ranks.
struct StepReport {
  std::int64_t step = 0;     ///< counted from 1
  std::int64_t targets = 0;  ///< target tokens of the step
  double loss = 0;           ///< nats per target token
  double grad_norm = 0;      ///< L2, before clipping
  double lr = 0;
  bool clipped = false;
  std::string batch_sha256;  ///< of all ids, targets and weights of the step: the same on any number of ranks
};

}  // namespace slipway
