// The checkpoints of a run: lists them, selects one, prunes the old ones.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace slipway {

/// Suffix of an older checkpoint of the same step while a new one is renamed to its name.
inline constexpr char kReplacedSuffix[] = ".replaced.partial";

/// One complete checkpoint: a folder that was published under its final name.
struct CheckpointRef {
  std::int64_t step = 0;
  std::filesystem::path folder;
};

std::string checkpoint_name(std::int64_t step);  ///< "step-00000100"

/// The complete checkpoints in `checkpoints` (a run's folder of that name), oldest first; none when it does not exist.
std::vector<CheckpointRef> list_checkpoints(const std::filesystem::path& checkpoints);

/// The newest checkpoint whose hashes all match. Cost: reads whole checkpoints, newest first, until one is valid.
std::optional<CheckpointRef> newest_valid_checkpoint(const std::filesystem::path& checkpoints);

/// The checkpoint at `model`, which is a checkpoint or a run folder. In a run folder `selector` chooses one: "" is the
/// newest complete one, else "best", a step, or the name of a checkpoint that was set aside (or its step, if unique).
/// Does not verify it: damage is detected when it is read, and no older checkpoint is substituted.
/// Errors   Fault::kStorage listing the checkpoints that exist; Fault::kConfig when `selector` is none of these, or
///          `model` is a data or Hugging Face folder.
CheckpointRef find_checkpoint(const std::filesystem::path& model, const std::string& selector = "");

/// The marker of the best checkpoint so far: lowest validation loss among steps both validated and saved.
struct BestCheckpoint {
  std::int64_t step = 0;
  double val_loss = 0.0;  ///< nats per token
};
std::optional<BestCheckpoint> best_checkpoint(const std::filesystem::path& checkpoints);
/// Writes the marker; without a value, removes it.
void mark_best(const std::filesystem::path& checkpoints, const std::optional<BestCheckpoint>& best);

/// Removes all complete checkpoints but the newest `keep` and the best. One rank calls it, after a publish.
void prune_checkpoints(const std::filesystem::path& checkpoints, int keep, std::optional<std::int64_t> best_step);

/// The suffix of a checkpoint that was set aside: ".set-aside", ".set-aside-1"; empty for any other name.
std::string set_aside_suffix(const std::filesystem::path& checkpoint);

/// The checkpoints in `checkpoints` that were set aside, ordered by suffix and then by step.
std::vector<CheckpointRef> list_set_aside(const std::filesystem::path& checkpoints);

/// A suffix that no folder in `checkpoints` has yet.
std::string unused_set_aside_suffix(const std::filesystem::path& checkpoints);

/// Renames the checkpoints after `step` to `step-<number><suffix>`, the newest first, so that a run resumed from an
/// older step does not later resume from checkpoints of the abandoned continuation. Deletes nothing. Returns the steps
/// of the renamed ones, oldest first.
std::vector<std::int64_t> set_aside_after(const std::filesystem::path& checkpoints, std::int64_t step,
                                          const std::string& suffix);

/// Removes leftovers of interrupted saves and removals. One rank calls it, before the run's first save. Returns their
/// count.
int remove_partials(const std::filesystem::path& checkpoints);

}  // namespace slipway
