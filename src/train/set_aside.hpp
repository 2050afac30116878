// Resuming from an earlier checkpoint: what the run had after it is set aside as a whole, and can be restored.
#pragma once

#include <filesystem>
#include <string>

#include "io/checkpoint/checkpoint_folder.hpp"

namespace slipway {

/// Sets aside what `run` has after `step`, all under one ending: checkpoints, best.json, and a copy of the lines of
/// metrics.jsonl. Nothing is done where no checkpoint is later. A process that is killed in the middle leaves a run at
/// an earlier checkpoint, and no line is lost.
///
/// Returns  what was done, as a sentence; empty: nothing. Errors: Fault::kStorage.
std::string set_aside(const std::filesystem::path& run, std::int64_t step);

/// Errors   Fault::kStorage when `aside`, a checkpoint that was set aside, cannot be brought back: earlier versions
/// kept no lines of metrics.jsonl for it.
void check_restorable(const std::filesystem::path& run, const CheckpointRef& aside);

/// Brings back what was set aside together with `aside`, up to its step, so that the run can go on from there; what the
/// run has had since is set aside in turn.
///
/// Returns  the last step that both futures share. Errors: Fault::kStorage.
std::int64_t restore_set_aside(const std::filesystem::path& run, const CheckpointRef& aside);

}  // namespace slipway
