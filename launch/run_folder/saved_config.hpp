// The configuration in a run's folder: config.ini has the keys that the user set, resolved.ini every value, and
// config.history.jsonl the changes by resumes (docs/runs.md).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "src/core/config.hpp"
#include "src/core/json.hpp"

namespace slipway {

/// The configuration in a run folder.
struct SavedConfig {
  Values initial_values;  ///< of all keys, when the run began
  Values overrides;       ///< those that the user set, when the run began and on resumes since
};

/// Reads a run's configuration into `fields`. Later files override earlier ones: resolved.ini, config.ini, and the
/// changes by resumes. Runs of earlier versions have a config.ini with every value, and no resolved.ini. Keys `fault.*`
/// are left out: they apply to one start of a run only.
/// Errors   Fault::kStorage naming the file.
SavedConfig read_run_config(Fields& fields, const std::filesystem::path& run_folder);

/// Writes `overrides` to config.ini and `resolved` to resolved.ini. `host_lines` lists the keys that are resolved again
/// on every start, as "key = value here"; they are written as comments.
void write_run_config(const std::filesystem::path& run_folder, const Fields& fields, const Values& overrides,
                      const Values& resolved, const std::vector<std::string>& host_lines);

/// Appends a line to config.history.jsonl: the step at which the run was resumed, and the keys that were given.
void append_history(const std::filesystem::path& run_folder, std::int64_t step, const Values& cli_overrides);

/// `values` without the keys `fault.*`, which are not saved.
Values without_fault_injection(Values values);

/// `before`, overridden by `update`. Of kRunLengthKeys only the later one stays.
Values merge_overrides(Values base, const Values& update);

/// For a fork, which starts with every value of its parent: resets values that the user did not set to their defaults
/// where these depend on a key that is `given` now and differs from the parent's `values`.
void reset_derived_defaults(Fields& fields, const Values& parent_values, const Values& parent_overrides,
                            const Values& cli_overrides);

/// The keys and values of a run's configuration, from its JSON form in a checkpoint.
Values values_of(const Json& config);

/// `values` with paths relative to `folder`, as files in it store them.
Values relative_to_run(const Fields& fields, Values values, const std::filesystem::path& folder);

/// `path` relative to `base`, for files that may be moved together with it.
std::string relative_to(const std::filesystem::path& path, const std::filesystem::path& base);

}  // namespace slipway
