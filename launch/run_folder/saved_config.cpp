#include "launch/run_folder/saved_config.hpp"

#include <algorithm>
#include <array>
#include <sstream>
#include <string_view>

#include "launch/commands/command.hpp"
#include "src/config/run_config.hpp"
#include "src/core/clock.hpp"
#include "src/core/file.hpp"

namespace slipway {
namespace {

namespace fs = std::filesystem;

constexpr char kConfigFile[] = "config.ini", kResolvedFile[] = "resolved.ini", kHistoryFile[] = "config.history.jsonl";

bool is_fault(const std::string& key) { return key.starts_with("fault."); }

/// A key whose default depends on other keys; in the list, each key comes after those that it depends on.
struct DerivedKey {
  const char* key;
  std::vector<const char*> depends_on;
  bool even_if_overridden = false;  ///< a value that the user set is dropped too when a key of `depends_on` changes
};

const std::vector<DerivedKey>& derived_keys() {
  static const std::vector<DerivedKey> kKeys = {
      {"model.layers", {"model.preset"}},
      {"model.width", {"model.preset"}},
      {"model.heads", {"model.preset"}},
      {"model.kv_heads", {"model.preset"}},
      {"model.ffn", {"model.preset"}},
      {"model.head_width", {"model.preset", "model.width", "model.heads"}},
      {"model.tied", {"model.preset"}},
      {"model.blocks", {"model.preset"}},
      {"model.rope_scaling", {"model.preset"}},
      {"model.rope_factor", {"model.rope_scaling"}},
      {"model.rope_low", {"model.rope_scaling"}},
      {"model.rope_high", {"model.rope_scaling"}},
      {"model.rope_original_context", {"model.rope_scaling"}},
      {"model.qkv_bias", {"model.preset"}},
      {"model.output_bias", {"model.preset"}},
      {"model.rope_base", {"model.preset"}},
      {"model.norm_eps", {"model.preset"}},
      {"model.context", {"train.sequence"}},
      {"validate.every", {"train.batch", "train.sequence", "validate.tokens", "data.path"}},
      {"train.micro_batch", {"train.batch", "numerics.slots"}},
      {"optim.momentum", {"optim.name"}, true},
      {"optim.peak_lr", {"optim.name", "model.preset"}},
      {"optim.schedule_steps", {"train.steps", "train.tokens", "train.epochs"}},
      {"optim.warmup_steps", {"optim.schedule_steps"}},
      {"optim.decay_steps", {"optim.schedule"}, true},
      {"optim.decay_steps", {"optim.schedule_steps", "optim.warmup_steps"}},
  };
  return kKeys;
}

/// `values` without automatic ones ("auto", "0", ...): for these, what was chosen when the run began stays.
Values without_auto_values(const Fields& fields, Values values) {
  constexpr std::array<std::string_view, 5> kAutomatic = {"", "0", "-1", "auto", "preset"};
  std::erase_if(values, [&](const auto& entry) {
    return fields.at(entry.first).default_value == entry.second &&
           std::ranges::find(kAutomatic, entry.second) != kAutomatic.end();
  });
  return values;
}

/// The values that an INI file of a run sets. Errors: Fault::kStorage.
Values read_ini(const fs::path& file) {
  try {
    RunConfig config;
    Fields fields;
    config.add_to(fields);
    read_config_file(fields, file);
    return without_fault_injection(fields.explicit_values());
  } catch (const Error& error) {
    throw Error(Fault::kStorage, error.what());
  }
}

}  // namespace

SavedConfig read_run_config(Fields& fields, const fs::path& run_folder) {
  const fs::path config_file = run_folder / kConfigFile, resolved_file = run_folder / kResolvedFile,
                 history_file = run_folder / kHistoryFile;
  SavedConfig saved{.initial_values = {}, .overrides = read_ini(config_file)};
  if (fs::exists(resolved_file)) saved.initial_values = read_ini(resolved_file);
  else saved.initial_values = saved.overrides;
  fields.read_values(saved.initial_values, resolved_file.string());
  fields.read_values(without_auto_values(fields, saved.overrides), config_file.string());
  if (!saved.initial_values.contains("optim.schedule_steps") && fs::exists(run_folder / "checkpoints"))
    throw Error(Fault::kStorage, join(resolved_file.string(),
                                      " is missing: it holds the values that the run began with; put "
                                      "it back, or go on in a new run with --fork ",
                                      run_folder.string(), " --run NEW"));
  if (!fs::exists(history_file)) return saved;

  std::istringstream lines(read_file(history_file, Fault::kStorage));
  long line_number = 0;
  for (std::string line; std::getline(lines, line);) {
    const FileLocation location{history_file, ++line_number};
    try {
      Values history_values = values_of(parse_json(line, location, Fault::kStorage).at("given"));
      for (auto& [key, value] : history_values)  // as in an INI file beside it
        if (fields.has(key) && fields.at(key).resume_policy == ResumePolicy::kPath && !value.empty() &&
            fs::path(value).is_relative())
          value = (run_folder / value).lexically_normal().string();
      fields.read_values(history_values, join(location));
      saved.overrides = merge_overrides(saved.overrides, history_values);
    } catch (const nlohmann::json::exception& reason) {
      throw Error(Fault::kStorage,
                  join(location, ": not as Slipway writes it (", reason.what(), "); remove that line"));
    }
  }
  return saved;
}

void write_run_config(const fs::path& run_folder, const Fields& fields, const Values& overrides, const Values& resolved,
                      const std::vector<std::string>& host_lines) {
  std::string text =
      "# Every value of this run, to start the very same one again. For a run with other keys take config.ini, which "
      "has only\n"
      "# what was asked for: here each value counts as given. Those below are worked out anew wherever a run is "
      "started;\n"
      "# here they were:\n";
  for (const std::string& line : host_lines) text += "#   " + line + "\n";
  atomic_write_file(run_folder / kResolvedFile, text + "\n" + fields.to_ini(resolved));
  atomic_write_file(run_folder / kConfigFile, fields.to_ini(overrides));
  std::error_code ignored;
  fs::remove(run_folder / kHistoryFile, ignored);  // of a run that ended before its first step
}

void append_history(const fs::path& run_folder, std::int64_t step, const Values& cli_overrides) {
  const fs::path path = run_folder / kHistoryFile;
  const std::string history = fs::exists(path) ? read_file(path, Fault::kStorage) : "";
  const Json line = {{"time", utc_now()}, {"version", SLIPWAY_VERSION}, {"step", step}, {"given", Json(cli_overrides)}};
  atomic_write_file(path, history + (history.empty() || history.ends_with('\n') ? "" : "\n") + to_line(line) + "\n");
}

Values without_fault_injection(Values values) {
  std::erase_if(values, [](const auto& entry) { return is_fault(entry.first); });
  return values;
}

Values merge_overrides(Values base, const Values& update) {
  const auto is_updated = [&](const std::string& key) { return update.contains(key); };
  if (std::ranges::any_of(kRunLengthKeys, is_updated))
    for (const std::string& key : kRunLengthKeys) base.erase(key);
  for (const auto& [key, value] : update) base[key] = value;
  return base;
}

void reset_derived_defaults(Fields& fields, const Values& parent_values, const Values& parent_overrides,
                            const Values& cli_overrides) {
  const Values overridden = without_auto_values(fields, parent_overrides);
  std::vector<std::string> changed;
  for (const auto& [key, value] : cli_overrides)
    if (const auto old_value = parent_values.find(key); old_value == parent_values.end() || old_value->second != value)
      changed.push_back(key);
  const auto has_changed = [&](const std::string& key) { return std::ranges::find(changed, key) != changed.end(); };

  // A length given in tokens or epochs is another number of steps when the batch size or the data changes.
  const bool is_length_affected =
                 has_changed("train.batch") || has_changed("train.sequence") || has_changed("data.path"),
             has_new_length =
                 std::ranges::any_of(kRunLengthKeys, [&](const auto&key) { return cli_overrides.contains(key); });
  for (const char* key : {"train.tokens", "train.epochs"}) {
    const auto length = overridden.find(key);
    if (!is_length_affected || has_new_length || length == overridden.end()) continue;
    fields.unset("train.steps");
    fields.set(key, length->second);
    changed.push_back(key);
  }
  for (const DerivedKey& derived : derived_keys()) {
    if (cli_overrides.contains(derived.key) || (overridden.contains(derived.key) && !derived.even_if_overridden))
      continue;
    if (std::ranges::none_of(derived.depends_on, [&](const char* key) { return has_changed(key); })) continue;
    fields.unset(derived.key);
    changed.emplace_back(derived.key);
  }
}

Values values_of(const Json& config) {
  Values values;
  for (const auto& [key, value] : config.items())
    if (value.is_string()) values[key] = value.get<std::string>();
  return values;
}

Values relative_to_run(const Fields& fields, Values values, const fs::path& folder) {
  for (auto& [key, value] : values)
    if (!value.empty() && fields.at(key).resume_policy == ResumePolicy::kPath) value = relative_to(value, folder);
  return values;
}

std::string relative_to(const fs::path& path, const fs::path& base) {
  return fs::proximate(fs::weakly_canonical(path), fs::weakly_canonical(base)).string();
}

}  // namespace slipway
