// A run's folder: made, refused, found again.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "comm/group.hpp"
#include "src/train/config.hpp"

namespace slipway {

/// Makes the folder of a new run. Rank 0 looks and makes; all ranks throw alike.
/// Errors   Fault::kConfig when it holds anything (but a lock file), naming --resume where it is a run.
void make_run_folder(const std::filesystem::path& run, Group& all);

/// Puts `path` in a form that is relative to `base`, for files that move with it.
std::string relative_to(const std::filesystem::path& path, const std::filesystem::path& base);

/// Refuses flags that would make another run of this one.
/// Errors   Fault::kConfig naming the key and both values.
void refuse_fixed_changes(const Fields& saved, const Fields& wanted);

}  // namespace slipway
