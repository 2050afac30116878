// The checkpoints of a run: which there are, which one is meant, which are kept.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace slipway {

/// What an older checkpoint of the same step is called for the moment in which a new one takes its name.
inline constexpr char kReplacedSuffix[] = ".replaced.partial";

/// One complete checkpoint: a folder that was published under its final name.
struct CheckpointRef {
  std::int64_t step = 0;
  std::filesystem::path folder;
};

std::string checkpoint_name(std::int64_t step);  ///< "step-00000100"

/// The complete checkpoints in `checkpoints` (a run's folder of that name), oldest first; none when it does not exist.
std::vector<CheckpointRef> list_checkpoints(const std::filesystem::path& checkpoints);

/// The newest whose every hash is right. Cost: reads checkpoints entirely, newest first, until one is good.
std::optional<CheckpointRef> newest_valid(const std::filesystem::path& checkpoints);

/// The checkpoint that a path means: a checkpoint itself, or a run folder, of which `which` chooses: "" the newest
/// complete one, "best", a step, or the name of a checkpoint that was set aside (its step, where that is clear).
/// Whether it is whole shows when it is read; an older one is never taken silently. Errors   Fault::kStorage naming
/// what is there instead; Fault::kConfig when `which` is none of these, or `model` a data or Hugging Face folder.
CheckpointRef find_checkpoint(const std::filesystem::path& model, const std::string& which = "");

/// The marker of the best checkpoint so far: lowest validation loss among steps both validated and saved.
struct BestCheckpoint {
  std::int64_t step = 0;
  double val_loss = 0.0;  ///< nats per token
};
std::optional<BestCheckpoint> best_checkpoint(const std::filesystem::path& checkpoints);
/// Without a value: there is none, and a marker of before goes.
void mark_best(const std::filesystem::path& checkpoints, const std::optional<BestCheckpoint>& best);

/// Removes all complete checkpoints but the newest `keep` and the best. One rank calls it, after a publish.
void prune_checkpoints(const std::filesystem::path& checkpoints, int keep, std::optional<std::int64_t> best_step);

/// What the name of a checkpoint that was set aside ends in: ".set-aside", ".set-aside-1"; empty for any other name.
std::string set_aside_ending(const std::filesystem::path& checkpoint);

/// The checkpoints in `checkpoints` that were set aside, by ending and then by step.
std::vector<CheckpointRef> list_set_aside(const std::filesystem::path& checkpoints);

/// An ending that nothing in `checkpoints` has.
std::string free_ending(const std::filesystem::path& checkpoints);

/// Renames the checkpoints after `step` to `step-<number><ending>`, the newest first, so that a run that goes on from
/// an older step does not meet its other future at the next resume. Nothing is deleted. Returns their steps, oldest
/// first.
std::vector<std::int64_t> set_aside_after(const std::filesystem::path& checkpoints, std::int64_t step,
                                          const std::string& ending);

/// Removes what unfinished saves and removals left behind. One rank calls it, before the run's first save. Returns how
/// many.
int remove_partials(const std::filesystem::path& checkpoints);

}  // namespace slipway
