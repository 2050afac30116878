#include "src/train/checkpoint_manager.hpp"

#include <algorithm>

#include "io/checkpoint/checkpoint_folder.hpp"
#include "src/core/clock.hpp"
#include "src/core/log.hpp"
#include "src/train/set_aside.hpp"

namespace slipway {

void CheckpointManager::prune_after(std::int64_t step) {
  remove_partials(checkpoints_);
  if (const std::string moved = set_aside(checkpoints_.parent_path(), step); !moved.empty()) log::info(moved);
  prune_checkpoints(checkpoints_, keep_, refresh_best());  // a killed run may have left more
}

void CheckpointManager::begin(const CheckpointInfo& info, std::span<const SliceView> slices) {
  std::optional<std::int64_t> earlier;
  timed_stall([&] { earlier = saver_.drain(); });
  on_published(earlier);
  save_begin_s_ = now_s();
  stalled_s_ = 0;
  last_step_ = info.step;
  timed_stall([&] { saver_.begin(info, slices); });
}

void CheckpointManager::snapshot() {
  timed_stall([this] { saver_.snapshot(); });
}

/// Counts the time of `call` to the save in flight: the training stands still for it.
void CheckpointManager::timed_stall(const std::function<void()>& call) {
  const double begin_s = now_s();
  call();
  stalled_s_ += now_s() - begin_s;
}

/// What follows from a checkpoint that has become visible.
void CheckpointManager::on_published(std::optional<std::int64_t> step) {
  if (!step) return;
  const double seconds = now_s() - save_begin_s_;
  longest_save_s_ = std::max(longest_save_s_, seconds);
  if (world_group_.rank() != 0) return;
  log::event(
      "checkpoint",
      {{"step", *step}, {"seconds", seconds}, {"stalled_s", stalled_s_}, {"copied_bytes", saver_.copied_bytes()}});
  if (published_) published_(*step, checkpoints_ / checkpoint_name(*step));
  try {
    prune_checkpoints(checkpoints_, keep_, refresh_best());
  } catch (const std::exception& error) {
    log::warn(join("step ", *step, " is saved, but tidying the checkpoints failed: ", error.what()));
  }
}

/// Marks the checkpoint with the lowest validation loss among those that are there.
std::optional<std::int64_t> CheckpointManager::refresh_best() const {
  std::optional<BestCheckpoint> best;
  for (const CheckpointRef& ref : list_checkpoints(checkpoints_))
    for (const Json& entry : history_["val_losses"]) {
      if (!entry["val_loss"].is_number() || entry["step"] != ref.step) continue;  // null: it was not finite
      const double loss = entry["val_loss"];
      if (!best || loss < best->val_loss) best = BestCheckpoint{ref.step, loss};
    }
  mark_best(checkpoints_, best);
  return best ? std::optional(best->step) : std::nullopt;
}

}  // namespace slipway
