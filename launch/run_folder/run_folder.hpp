// A run's folder: made, refused, found again.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "comm/group.hpp"
#include "src/core/config.hpp"

namespace slipway {

/// Makes the folder of a new run. Rank 0 looks and makes; all ranks throw alike.
/// Errors   Fault::kConfig when it holds anything (but a lock file), naming --resume where it is a run.
void make_run_folder(const std::filesystem::path& run, Group& all);

/// Refuses what would make another run of this one: a fixed key whose resolved value is not what it was `before`.
/// Errors   Fault::kConfig naming the key, both values, `whose` the earlier one is, and what to do in place of it.
void refuse_fixed_changes(const Values& before, const Fields& now, const char* whose, const std::filesystem::path& run);

/// Leaves the reason of an error in the run's status.json, for programs that look at the folder later. The status of an
/// earlier end stays: what is refused before a run goes on changes nothing.
void record_failure(const std::filesystem::path& run, const char* status, std::string_view fault,
                    const std::string& why);

}  // namespace slipway
