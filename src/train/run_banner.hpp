// What a run says of itself before its first step.
#pragma once

#include "comm/world.hpp"
#include "src/data/corpus.hpp"
#include "src/train/forecast.hpp"
#include "src/train/machine_limit.hpp"
#include "src/train/trainer.hpp"

namespace slipway {

/// What the banner speaks of; all of it outlives the call.
struct RunBanner {
  const RunConfig& config;
  const Corpus& corpus;
  Model& model;
  const KernelTable& kernels;
  const Mesh& mesh;
  const SlotPlan& slots;
  const Forecast& forecast;
  const ProductPeak& peak;  ///< of all ranks together
};
void log_banner(const RunBanner& run);

}  // namespace slipway
