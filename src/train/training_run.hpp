// A run from its first step to its last: steps, validation, checkpoints, signals, reports.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "comm/mesh.hpp"
#include "comm/world.hpp"
#include "src/config/run_config.hpp"
#include "src/data/corpus.hpp"
#include "src/train/trainer.hpp"

namespace slipway {

/// What a new run takes over from a checkpoint of another.
struct Fork {
  Json parent;  ///< that run and checkpoint, as manifests, status.json and a reader want to know it
  bool load_optimizer_state = true;  ///< false: the optimizer is another, and begins anew
};

/// Where a run lives and how it begins.
struct RunSetup {
  std::filesystem::path folder;                       ///< of the run; exists, locked
  std::optional<std::filesystem::path> checkpoint;    ///< continue from it
  std::optional<Fork> fork;                           ///< the checkpoint is another run's: a new run begins with it
  const TensorSource* init = nullptr;                 ///< or begin with these weights; null: initialize from the seed
  Json config;                                        ///< every key with its value, as every checkpoint keeps it
  Json overrides;                                     ///< the keys that were asked for, likewise
  std::function<void(std::int64_t step)> on_started;  ///< called on rank 0 as soon as nothing can refuse any more
};

/// What the run asks of the program around it.
struct RunHooks {
  std::function<int()> pending_signal;        ///< the first signal noted, 0 for none
  std::function<std::string(Model&)> sample;  ///< a short continuation; empty: none
  /// Called on rank 0 when a checkpoint is complete under its final name, before older ones are pruned; may be empty.
  /// The training waits until it returns. What it throws ends the run, and the checkpoint stays.
  std::function<void(std::int64_t step, const std::filesystem::path& folder)> checkpoint_published;
};

/// How a run ended; also its `status.json`.
struct RunResult {
  std::string
      status;  ///< "ok", "interrupted" or "stream_exhausted" (errors are thrown, and leave "numerical" or "failed")
  std::int64_t step = 0;
  int signal = 0;                     ///< that asked for the end, or 0
  std::string reason;                 ///< the sentence of "stream_exhausted"
  std::vector<std::string> warnings;  ///< of all ranks, each sentence once
  std::optional<double> val_loss;     ///< the last that was measured, after step `val_step`
  std::int64_t val_step = 0;
};

/// Errors   Fault::kData when a checkpoint was trained on other data than this.
void check_same_data(const CheckpointInfo& info, const Corpus& corpus);

/// What a run has behind it at a checkpoint.
RunProgress progress_of(const CheckpointInfo& info);

/// Trains until the configured step, the time limit, or a signal. Ranks: collective over the world.
/// Errors   Fault::kStorage when the disk has no space for checkpoint.keep + 2 checkpoints; Fault::kNumeric for a step
///          that is not finite; whatever loading and saving throw. The newest checkpoint stays valid in every case.
RunResult run_training(World& world, Mesh& mesh, const Backend& backend, const RunConfig& config, const Corpus& corpus,
                       const RunSetup& start, const RunHooks& hooks);

}  // namespace slipway
