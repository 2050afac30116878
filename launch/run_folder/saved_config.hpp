// What a run was asked for, and what came of it, as its folder keeps them: config.ini, resolved.ini and
// config.history.jsonl (docs/runs.md).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "src/core/config.hpp"
#include "src/core/json.hpp"

namespace slipway {

/// The configuration that a run folder holds.
struct SavedConfig {
  Values initial_values;  ///< every value with which the run began
  Values asked;           ///< what was asked for: when it began, and by resumes since
};

/// Reads a run's configuration into `fields`, each file as a source over the one before: resolved.ini, config.ini, and
/// what resumes have changed. Runs of earlier versions have a config.ini that holds every value, and no resolved.ini.
/// `fault.*` are left out: they are for one start of a run.
/// Errors   Fault::kStorage naming the file.
SavedConfig read_run_config(Fields& fields, const std::filesystem::path& run);

/// Writes config.ini, which holds `asked`, and resolved.ini, which holds `resolved`; `here` are what is worked out anew
/// wherever a run is started, each as "key = what it is here", and become comments.
void write_run_config(const std::filesystem::path& run, const Fields& fields, const Values& asked,
                      const Values& resolved, const std::vector<std::string>& here);

/// Appends a line to config.history.jsonl: at which step the run went on, and what was asked for then.
void append_history(const std::filesystem::path& run, std::int64_t step, const Values& given);

/// `values` without the keys of faults on demand, which no file keeps.
Values without_fault_injection(Values values);

/// Adds `later` to what was asked for before. Of keys that say the same thing, the later one stays.
Values merge_overrides(Values before, const Values& later);

/// For a fork, which begins with every value of its parent: gives those that nobody asked for their defaults again
/// where they depend on a key that is `given` now and differs from the parent's `values`.
void rederive(Fields& fields, const Values& values, const Values& asked, const Values& given);

/// The keys and values that a checkpoint keeps of its run's configuration.
Values values_of(const Json& config);

/// Puts paths among `values` in the form in which a file of `folder` means them.
Values relative_to_run(const Fields& fields, Values values, const std::filesystem::path& folder);

/// Puts `path` in a form that is relative to `base`, for files that move with it.
std::string relative_to(const std::filesystem::path& path, const std::filesystem::path& base);

}  // namespace slipway
