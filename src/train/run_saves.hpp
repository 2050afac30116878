// The checkpoints of a run while it trains: begun between steps, told when they are visible, and tidied.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>

#include "comm/group.hpp"
#include "io/checkpoint_saver.hpp"
#include "src/core/json.hpp"

namespace slipway {

/// A CheckpointSaver, how long its saves take, and what stays of them: the newest `keep` and the best.
///
/// `history` is the run's ("val_losses": [{"step", "val_loss"}]): it says which checkpoint is the best one.
/// Ranks    begin(), poll() and drain() are collective over the group; tidy_after() is rank 0's.
/// Errors   those of CheckpointSaver. A failure to tidy up is a warning: it is no reason to end a good run.
class RunSaves {
 public:
  RunSaves(const std::filesystem::path& checkpoints, int keep, const Json& history, Group& all)
      : checkpoints_(checkpoints), keep_(keep), history_(history), all_(all), saver_(checkpoints, all) {}

  /// Before the first save: what lies in the folder becomes what a run at `step` may find. Later checkpoints are set
  /// aside, and what a killed run left half done goes.
  /// Errors   Fault::kStorage.
  void tidy_after(std::int64_t step);
  /// The run goes on from the checkpoint of `step`.
  void resumed(std::int64_t step) { last_step_ = step; }

  /// Waits for the save in flight and begins the next one.
  void begin(const CheckpointInfo& info, std::span<const SliceView> mine);
  /// To be called before the numbers given to begin() change, on each rank for itself.
  void before_change();
  /// Moves a save in flight on.
  void poll() { published(saver_.poll()); }
  /// Waits until no save is in flight.
  void drain() { published(saver_.drain()); }

  bool in_flight() const { return saver_.active(); }
  std::int64_t last_step() const { return last_step_; }  ///< of the newest save, or of the checkpoint resumed from
  double longest_s() const { return longest_s_; }        ///< from begin() until a save was seen to be visible

 private:
  void stalled(const std::function<void()>& call);
  void published(std::optional<std::int64_t> step);
  std::optional<std::int64_t> refresh_best() const;

  std::filesystem::path checkpoints_;
  int keep_;
  const Json& history_;
  Group& all_;
  CheckpointSaver saver_;
  std::int64_t last_step_ = 0;
  double began_s_ = 0;  // of the save in flight
  double stall_s_ = 0;  // for which the training stood still for it
  double longest_s_ = 0;
};

}  // namespace slipway
