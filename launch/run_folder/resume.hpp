// What a resumed run continues from: its own configuration, and one of its checkpoints.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "comm/group.hpp"
#include "io/checkpoint/checkpoint.hpp"
#include "src/config/run_config.hpp"
#include "src/core/config.hpp"

namespace slipway {

/// Where a run continues.
struct ResumePoint {
  std::optional<CheckpointRef> checkpoint;  ///< none: the run has not saved yet
  std::string message;                      ///< what was chosen, and from what
};

/// The checkpoint that `--resume RUN [--checkpoint WHICH]` selects. Rank 0 selects it and broadcasts the choice, since
/// a network file system may show different folders to different ranks.
///
/// Ranks    collective. Errors: the same on all ranks, as find_checkpoint.
ResumePoint choose_checkpoint(const std::filesystem::path& run_folder, const std::string& selector, Group& world_group);

/// Verifies every byte of a checkpoint, each rank a part of the files, so that damage in parts that loading does not
/// read is found too.
///
/// Ranks    collective. Errors: Fault::kStorage, the same on all ranks.
void verify_on_all_ranks(const std::filesystem::path& checkpoint, Group& world_group);

/// Keeps the run's compute type: `numerics.compute = auto` stays what it was when the run began.
void keep_compute_dtype(RunConfig& config, const CheckpointInfo& info);

}  // namespace slipway
