// The folder of a run: creating it, refusing changes of fixed keys, recording failures.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "comm/group.hpp"
#include "src/core/config.hpp"

namespace slipway {

/// Creates the folder of a new run on rank 0. Ranks: collective; all ranks throw the same error.
/// Errors   Fault::kConfig when it contains anything but a run that ended before its first step; for a run it names
///          --resume.
void make_run_folder(const std::filesystem::path& run_folder, Group& world_group);

/// Refuses to resume with a fixed key whose resolved value differs from the one `before`.
/// Errors   Fault::kConfig naming the key, both values, `whose` the earlier one is, and what to do instead.
void check_immutable_keys(const Values& saved_values, const Fields& fields, const char* value_description,
                          const std::filesystem::path& run_folder);

/// Records an error in the run's status.json, for programs that read the folder later. The status of a run that ended
/// earlier stays: an error before the run continues does not change it.
void record_failure(const std::filesystem::path& run_folder, const char* status, std::string_view fault,
                    const std::string& error_message);

}  // namespace slipway
