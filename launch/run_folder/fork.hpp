// `train --fork RUN`: a new run that continues from a checkpoint of another run, with other keys.
#pragma once

#include <filesystem>
#include <string>

#include "comm/group.hpp"
#include "io/checkpoint/checkpoint.hpp"
#include "launch/run_folder/saved_config.hpp"
#include "src/data/corpus.hpp"
#include "src/train/training_run.hpp"

namespace slipway {

/// The checkpoint that a new run starts from.
struct ForkSource {
  CheckpointRef checkpoint;
  CheckpointInfo info;
  std::filesystem::path parent_folder;  ///< the run that the checkpoint belongs to
  Values values;                        ///< of all keys in that run; paths are relative to the current folder
  Values overrides;                     ///< those of them that the user set
};

/// Opens the checkpoint that `--fork PATH [--checkpoint WHICH]` selects, and verifies every byte of it. Rank 0 selects
/// it and broadcasts the choice, since the parent run may still be saving.
///
/// Ranks    collective. Errors: the same on all ranks, as find_checkpoint; Fault::kStorage when it is damaged.
ForkSource open_fork(const std::string& path, const std::string& selector, Group& world_group);

/// Where the data of the fork begins: progress_of() the checkpoint, converted to sequences of `config`.
RunProgress fork_progress(const ForkSource& source, const RunConfig& config, const Corpus& corpus);

/// Checks that the checkpoint's weights fit, and that steps are left to train; `data_given`: the user chose the data
/// explicitly. After RunConfig::resolve().
///
/// Errors   Fault::kConfig naming what differs; Fault::kData when the contents of the parent's data folder changed.
void check_fork(const ForkSource& source, const RunConfig& config, const Corpus& corpus, bool data_given);

/// What the new run in `run_folder`, with `values` for its keys, inherits from its parent; rank 0 warns when the
/// optimizer's moments are not inherited.
Fork inherit_from_parent(const ForkSource& source, const Values& values, const std::filesystem::path& run_folder,
                         bool is_rank0);

}  // namespace slipway
