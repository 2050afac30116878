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

constexpr char kAsked[] = "config.ini", kResolved[] = "resolved.ini", kHistory[] = "config.history.jsonl";

bool is_fault(const std::string& key) { return key.starts_with("fault."); }

/// A key whose default depends on other keys; in the list, each key comes after those that it depends on.
struct Derived {
  const char* key;
  std::vector<const char*> from;
  bool even_if_asked = false;  ///< a value that the user set is dropped too when a key of `from` changes
};

const std::vector<Derived>& derived_keys() {
  static const std::vector<Derived> kKeys = {
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
Values not_automatic(const Fields& fields, Values values) {
  constexpr std::array<std::string_view, 5> kAutomatic = {"", "0", "-1", "auto", "preset"};
  std::erase_if(values, [&](const auto& entry) {
    return fields.at(entry.first).fallback == entry.second &&
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
    return without_fault_injection(fields.given_values());
  } catch (const Error& error) {
    throw Error(Fault::kStorage, error.what());
  }
}

}  // namespace

SavedConfig read_run_config(Fields& fields, const fs::path& run) {
  const fs::path asked = run / kAsked, resolved = run / kResolved, history = run / kHistory;
  SavedConfig saved{.initial_values = {}, .asked = read_ini(asked)};
  if (fs::exists(resolved)) saved.initial_values = read_ini(resolved);
  else saved.initial_values = saved.asked;
  fields.read_values(saved.initial_values, resolved.string());
  fields.read_values(not_automatic(fields, saved.asked), asked.string());
  if (!saved.initial_values.contains("optim.schedule_steps") && fs::exists(run / "checkpoints"))
    throw Error(Fault::kStorage, join(resolved.string(),
                                      " is missing: it holds the values that the run began with; put "
                                      "it back, or go on in a new run with --fork ",
                                      run.string(), " --run NEW"));
  if (!fs::exists(history)) return saved;

  std::istringstream lines(read_file(history, Fault::kStorage));
  long number = 0;
  for (std::string line; std::getline(lines, line);) {
    const Where where{history, ++number};
    try {
      Values given = values_of(parse_json(line, where, Fault::kStorage).at("given"));
      for (auto& [key, value] : given)  // as in an INI file beside it
        if (fields.has(key) && fields.at(key).change == ResumePolicy::kPath && !value.empty() &&
            fs::path(value).is_relative())
          value = (run / value).lexically_normal().string();
      fields.read_values(given, join(where));
      saved.asked = merge_overrides(saved.asked, given);
    } catch (const nlohmann::json::exception& reason) {
      throw Error(Fault::kStorage, join(where, ": not as Slipway writes it (", reason.what(), "); remove that line"));
    }
  }
  return saved;
}

void write_run_config(const fs::path& run, const Fields& fields, const Values& asked, const Values& resolved,
                      const std::vector<std::string>& here) {
  std::string text =
      "# Every value of this run, to start the very same one again. For a run with other keys take config.ini, which "
      "has only\n"
      "# what was asked for: here each value counts as given. Those below are worked out anew wherever a run is "
      "started;\n"
      "# here they were:\n";
  for (const std::string& line : here) text += "#   " + line + "\n";
  replace_file(run / kResolved, text + "\n" + fields.to_ini(resolved));
  replace_file(run / kAsked, fields.to_ini(asked));
  std::error_code none;
  fs::remove(run / kHistory, none);  // of a run that ended before its first step
}

void append_history(const fs::path& run, std::int64_t step, const Values& given) {
  const fs::path path = run / kHistory;
  const std::string before = fs::exists(path) ? read_file(path, Fault::kStorage) : "";
  const Json line = {{"time", utc_now()}, {"version", SLIPWAY_VERSION}, {"step", step}, {"given", Json(given)}};
  replace_file(path, before + (before.empty() || before.ends_with('\n') ? "" : "\n") + to_line(line) + "\n");
}

Values without_fault_injection(Values values) {
  std::erase_if(values, [](const auto& entry) { return is_fault(entry.first); });
  return values;
}

Values merge_overrides(Values before, const Values& later) {
  const auto is_later = [&](const std::string& key) { return later.contains(key); };
  if (std::ranges::any_of(kLengthKeys, is_later))
    for (const std::string& key : kLengthKeys) before.erase(key);
  for (const auto& [key, value] : later) before[key] = value;
  return before;
}

void reset_derived_defaults(Fields& fields, const Values& values, const Values& all_asked, const Values& given) {
  const Values asked = not_automatic(fields, all_asked);
  std::vector<std::string> changed;
  for (const auto& [key, value] : given)
    if (const auto was = values.find(key); was == values.end() || was->second != value) changed.push_back(key);
  const auto has_changed = [&](const std::string& key) { return std::ranges::find(changed, key) != changed.end(); };

  // A length given in tokens or epochs is another number of steps when the batch size or the data changes.
  const bool other_step = has_changed("train.batch") || has_changed("train.sequence") || has_changed("data.path"),
             new_length = std::ranges::any_of(kLengthKeys, [&](const auto&key) { return given.contains(key); });
  for (const char* key : {"train.tokens", "train.epochs"}) {
    const auto length = asked.find(key);
    if (!other_step || new_length || length == asked.end()) continue;
    fields.unset("train.steps");
    fields.set(key, length->second);
    changed.push_back(key);
  }
  for (const Derived& derived : derived_keys()) {
    if (given.contains(derived.key) || (asked.contains(derived.key) && !derived.even_if_asked)) continue;
    if (std::ranges::none_of(derived.from, [&](const char* key) { return has_changed(key); })) continue;
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
    if (!value.empty() && fields.at(key).change == ResumePolicy::kPath) value = relative_to(value, folder);
  return values;
}

std::string relative_to(const fs::path& path, const fs::path& base) {
  return fs::proximate(fs::weakly_canonical(path), fs::weakly_canonical(base)).string();
}

}  // namespace slipway
