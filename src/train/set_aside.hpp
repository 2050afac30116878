// Resuming from an earlier checkpoint: the later checkpoints of the run are set aside together, and can be restored.
#pragma once

#include <filesystem>
#include <string>

#include "io/checkpoint/checkpoint_folder.hpp"

namespace slipway {

/// Sets aside what `run` has after `step`, all under one file name ending: checkpoints, best.json, and a copy of the
/// lines of metrics.jsonl. Does nothing where there is no later checkpoint. A process that is killed meanwhile leaves a
/// run that ends at an earlier checkpoint, and loses no lines.
///
/// Returns  a sentence that says what was done; empty: nothing. Errors: Fault::kStorage.
std::string set_aside(const std::filesystem::path& run, std::int64_t step);

/// Errors   Fault::kStorage when `aside`, a checkpoint that was set aside, cannot be restored, since an earlier version
///          kept no lines of metrics.jsonl for it.
void check_restorable(const std::filesystem::path& run, const CheckpointRef& aside);

/// Restores what was set aside together with `aside`, up to its step, so that the run can continue from there. What the
/// run has done since is set aside in turn.
///
/// Returns  the last step that both continuations share. Errors: Fault::kStorage.
std::int64_t restore_set_aside(const std::filesystem::path& run, const CheckpointRef& aside);

}  // namespace slipway
