// `train --fork RUN`: a new run that goes on from a checkpoint of another one, with other keys.
#pragma once

#include <filesystem>
#include <string>

#include "comm/group.hpp"
#include "io/checkpoint/checkpoint.hpp"
#include "launch/run_folder/saved_config.hpp"
#include "src/data/corpus.hpp"
#include "src/train/training_run.hpp"

namespace slipway {

/// The checkpoint that a new run begins with.
struct ForkSource {
  CheckpointRef checkpoint;
  CheckpointInfo info;
  std::filesystem::path run;  ///< that it lies in
  Values values;              ///< with which it was trained; paths as they are from here
  Values asked;               ///< of these, what was asked for
};

/// Opens the checkpoint that `--fork PATH [--checkpoint WHICH]` means, and reads every byte of it. Rank 0 looks, and
/// tells the others: the parent may be training on.
///
/// Ranks    collective. Errors: alike on all ranks, as find_checkpoint; Fault::kStorage when it is damaged.
ForkSource open_fork(const std::string& path, const std::string& which, Group& all);

/// Where the data of the fork begins: progress_of the checkpoint, in sequences of `config`.
RunProgress fork_progress(const ForkSource& source, const RunConfig& config, const Corpus& corpus);

/// Makes sure that the checkpoint's weights fit, and that something is left to train; `data_given`: other data than the
/// parent's is meant. After RunConfig::resolve().
///
/// Errors   Fault::kConfig naming what differs; Fault::kData for data that changed where it lies.
void check_fork(const ForkSource& source, const RunConfig& config, const Corpus& corpus, bool data_given);

/// What the new run in `run`, with `values` for its keys, inherits from its parent; rank 0 logs what it does not.
Fork take_over(const ForkSource& source, const Values& values, const std::filesystem::path& run, bool is_rank0);

}  // namespace slipway
