// What a resumed run goes on from: its own configuration, and one of its checkpoints.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "comm/group.hpp"
#include "io/checkpoint/checkpoint.hpp"
#include "src/config/run_config.hpp"
#include "src/core/config.hpp"

namespace slipway {

/// Where a run goes on.
struct ResumePoint {
  std::optional<CheckpointRef> checkpoint;  ///< none: the run has not saved yet
  std::string message;                      ///< what was chosen, and from what
};

/// The checkpoint that `--resume RUN [--checkpoint WHICH]` means. Rank 0 looks and tells the others, so that a file
/// system that shows them different folders cannot part them.
///
/// Ranks    collective. Errors: alike on all ranks, as find_checkpoint.
ResumePoint choose_checkpoint(const std::filesystem::path& run, const std::string& which, Group& all);

/// Reads every byte of a checkpoint, each rank its share of the files, so that a flip which loading would not touch is
/// found now.
///
/// Ranks    collective. Errors: Fault::kStorage, alike on all ranks.
void verify_together(const std::filesystem::path& checkpoint, Group& all);

/// Goes on in the type that the run was computed in: `numerics.compute = auto` means what it meant when it began.
void pin_compute_dtype(RunConfig& config, const CheckpointInfo& info);

}  // namespace slipway
