// The checkpoints of a run in progress: saves them in the background of the training, and prunes old ones.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>

#include "comm/group.hpp"
#include "src/core/json.hpp"
#include "src/train/checkpoint_saver.hpp"

namespace slipway {

/// Runs a CheckpointSaver, times its saves, and keeps the newest `keep` checkpoints and the best.
///
/// `history` is the run's ("val_losses": [{"step", "val_loss"}]): it says which checkpoint is the best one.
/// Ranks    begin(), poll() and drain() are collective over the group; prune_after() is rank 0's.
/// Errors   those of CheckpointSaver. A failure to prune is a warning: it is no reason to end a good run.
class CheckpointManager {
 public:
  /// `published` may be empty; see RunHooks::checkpoint_published.
  using Published = std::function<void(std::int64_t step, const std::filesystem::path& folder)>;
  CheckpointManager(const std::filesystem::path& checkpoints, int keep, const Json& history, Group& world_group,
                    Published published)
      : checkpoints_(checkpoints),
        keep_(keep),
        history_(history),
        world_group_(world_group),
        published_(std::move(published)),
        saver_(checkpoints, world_group) {}

  /// Before the first save: brings the folder to the state of a run at `step`. Later checkpoints are set aside, and
  /// incomplete checkpoints of a killed run are removed.
  /// Errors   Fault::kStorage.
  void prune_after(std::int64_t step);
  /// The run goes on from the checkpoint of `step`.
  void mark_resumed(std::int64_t step) { last_step_ = step; }

  /// Waits for the save in flight and begins the next one.
  void begin(const CheckpointInfo& info, std::span<const SliceView> slices);
  /// To be called before the numbers given to begin() change, on each rank for itself.
  void snapshot();
  /// Moves a save in flight on.
  void poll() { on_published(saver_.poll()); }
  /// Waits until no save is in flight.
  void drain() { on_published(saver_.drain()); }

  bool in_flight() const { return saver_.active(); }
  std::int64_t last_step() const { return last_step_; }      ///< of the newest save, or of the checkpoint resumed from
  double longest_save_s() const { return longest_save_s_; }  ///< from begin() until a save was seen to be visible

 private:
  void timed_stall(const std::function<void()>& call);
  void on_published(std::optional<std::int64_t> step);
  std::optional<std::int64_t> refresh_best() const;

  std::filesystem::path checkpoints_;
  int keep_;
  const Json& history_;
  Group& world_group_;
  Published published_;
  CheckpointSaver saver_;
  std::int64_t last_step_ = 0;
  double save_begin_s_ = 0;  // of the save in flight
  double stalled_s_ = 0;     // for which the training stood still for it
  double longest_save_s_ = 0;
};

}  // namespace slipway
