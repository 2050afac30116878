// A run's folder: made, refused, found again.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "comm/group.hpp"
#include "src/core/json.hpp"
#include "src/train/config.hpp"

namespace slipway {

/// Makes the folder of a new run. Rank 0 looks and makes; all ranks throw alike.
/// Errors   Fault::kConfig when it holds anything (but a lock file), naming --resume where it is a run.
void make_run_folder(const std::filesystem::path& run, Group& all);

/// Puts `path` in a form that is relative to `base`, for files that move with it.
std::string relative_to(const std::filesystem::path& path, const std::filesystem::path& base);

/// The keys and values that a checkpoint keeps of its run's configuration.
std::map<std::string, std::string> values_of(const Json& config);

/// Refuses what would make another run of this one: a fixed key whose resolved value is not what it was `before`.
/// Errors   Fault::kConfig naming the key, both values, and `whose` the earlier one is.
void refuse_fixed_changes(const std::map<std::string, std::string>& before, const Fields& now, const char* whose);

}  // namespace slipway
