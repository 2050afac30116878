// The log lines before the first step: model, data, layout, plan.
#pragma once

#include "comm/mesh.hpp"
#include "kernels/instrument/device_peaks.hpp"
#include "src/data/corpus.hpp"
#include "src/plan/run_estimate.hpp"
#include "src/train/trainer.hpp"

namespace slipway {

/// What the banner describes.
struct RunBanner {
  const RunConfig& config;
  const Corpus& corpus;
  Model& model;
  const Backend& backend;
  const Mesh& mesh;
  const ReductionSlots& slots;
  const RunEstimate& estimate;
  const GemmPeak& peak;  ///< of all ranks together
};
void log_banner(const RunBanner& run);

}  // namespace slipway
