#include "io/checkpoint/checkpoint_folder.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <tuple>

#include "io/checkpoint/checkpoint_reader.hpp"
#include "src/core/error.hpp"
#include "src/core/file.hpp"
#include "src/core/json_error.hpp"
#include "src/core/json_number.hpp"

namespace slipway {
namespace {

namespace fs = std::filesystem;

constexpr char kPrefix[] = "step-";
constexpr std::size_t kDigits = 8;  // at least; longer step numbers are not cut
constexpr char kBestName[] = "best.json";
constexpr char kSetAsideSuffix[] = ".set-aside";
constexpr char kRemovedSuffix[] = ".removed.partial";

std::optional<std::int64_t> parse_number(std::string_view text) {
  std::int64_t number = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || status != std::errc() || end != text.data() + text.size() || number < 0) return std::nullopt;
  return number;
}

std::optional<std::int64_t> parse_checkpoint_name(const std::string& name) {
  const std::size_t prefix_size = sizeof kPrefix - 1;
  if (!name.starts_with(kPrefix) || name.size() < prefix_size + kDigits) return std::nullopt;
  return parse_number(std::string_view(name).substr(prefix_size));
}

/// Whether the name is one that only an unfinished save leaves: step-<number>.partial, step-<number>.removed.partial,
/// step-<number>.replaced.partial, and the temporary file of best.json.
bool is_leftover(const std::string& name) {
  const std::string best_prefix = std::string(kBestName) + ".partial-";
  if (name.starts_with(best_prefix))
    return name.find_first_not_of("0123456789-", best_prefix.size()) == std::string::npos;
  const std::size_t dot = name.find('.');
  if (dot == std::string::npos || !parse_checkpoint_name(name.substr(0, dot))) return false;
  const std::string suffix = name.substr(dot);
  return suffix == ".partial" || suffix == kRemovedSuffix || suffix == kReplacedSuffix;
}

/// The path in normal form and without a trailing slash, so that filename() is not empty.
fs::path normalize_path(const fs::path& path) {
  fs::path normal = path.lexically_normal();
  return normal.has_filename() ? normal : normal.parent_path();
}

/// The step in the name of a checkpoint that was set aside; nullopt for any other name.
std::optional<std::int64_t> parse_set_aside_name(const std::string& name) {
  const std::string suffix = set_aside_suffix(name);
  return suffix.empty() ? std::nullopt : parse_checkpoint_name(name.substr(0, name.size() - suffix.size()));
}

std::string steps_text(const std::vector<CheckpointRef>& refs) {
  std::string text;
  for (const CheckpointRef& ref : refs) text += (text.empty() ? "" : ", ") + std::to_string(ref.step);
  return text;
}

/// Runs `work`; a file-system error (such as a folder that cannot be listed) becomes Fault::kStorage.
template <class Work>
auto with_storage_errors(const fs::path& path, Work&& work) {
  try {
    return work();
  } catch (const fs::filesystem_error& error) {
    throw Error(Fault::kStorage, join("cannot look into ", path.string(), ": ", error.code().message()));
  }
}

/// Renames the folder before deleting it, so that a crash in between leaves no incomplete checkpoint that looks valid.
void remove_checkpoint(const fs::path& folder) {
  const fs::path removed_path = folder.string() + kRemovedSuffix;
  std::error_code error;
  fs::remove_all(removed_path, error);
  fs::rename(folder, removed_path, error);
  if (!error) fs::remove_all(removed_path, error);
  if (error)
    throw Error(Fault::kStorage, join("cannot remove the old checkpoint ", folder.string(), ": ", error.message()));
}

}  // namespace

std::string checkpoint_name(std::int64_t step) {
  std::string digits = std::to_string(step);
  return kPrefix + std::string(digits.size() < kDigits ? kDigits - digits.size() : 0, '0') + digits;
}

std::vector<CheckpointRef> list_checkpoints(const fs::path& checkpoints) {
  return with_storage_errors(checkpoints, [&] {
    std::vector<CheckpointRef> refs;
    if (!fs::is_directory(checkpoints)) return refs;
    for (const auto& entry : fs::directory_iterator(checkpoints)) {
      const auto step = parse_checkpoint_name(entry.path().filename());
      if (step && entry.is_directory()) refs.push_back({*step, entry.path()});
    }
    std::ranges::sort(refs, {}, &CheckpointRef::step);
    return refs;
  });
}

std::string set_aside_suffix(const fs::path& checkpoint) {
  const std::string name = checkpoint.filename().string();
  const std::size_t at = name.find(kSetAsideSuffix);
  if (at == std::string::npos) return "";
  const std::string_view number = std::string_view(name).substr(at + sizeof kSetAsideSuffix - 1);
  return number.empty() || (number.front() == '-' && parse_number(number.substr(1))) ? name.substr(at) : "";
}

std::vector<CheckpointRef> list_set_aside(const fs::path& checkpoints) {
  return with_storage_errors(checkpoints, [&] {
    std::vector<CheckpointRef> refs;
    if (!fs::is_directory(checkpoints)) return refs;
    for (const auto& entry : fs::directory_iterator(checkpoints)) {
      const auto step = parse_set_aside_name(entry.path().filename());
      if (step && entry.is_directory()) refs.push_back({*step, entry.path()});
    }
    std::ranges::sort(refs, {}, [](const CheckpointRef& ref) {
      const std::string suffix = set_aside_suffix(ref.folder);
      return std::tuple(suffix.size(), suffix, ref.step);
    });
    return refs;
  });
}

std::string unused_set_aside_suffix(const fs::path& checkpoints) {
  return with_storage_errors(checkpoints, [&] {
    std::vector<std::string> used_suffixes;
    if (fs::is_directory(checkpoints))
      for (const auto& entry : fs::directory_iterator(checkpoints))
        used_suffixes.push_back(set_aside_suffix(entry.path()));
    std::string suffix = kSetAsideSuffix;
    for (int i = 1; std::ranges::find(used_suffixes, suffix) != used_suffixes.end(); ++i)
      suffix = join(kSetAsideSuffix, "-", i);
    return suffix;
  });
}

std::optional<CheckpointRef> newest_valid_checkpoint(const fs::path& checkpoints) {
  auto refs = list_checkpoints(checkpoints);
  for (auto ref = refs.rbegin(); ref != refs.rend(); ++ref) {
    try {
      CheckpointReader(ref->folder, RecoveryHint::kNone).verify_all();
      return *ref;
    } catch (const Error&) {  // damaged: try an older one
    }
  }
  return std::nullopt;
}

namespace {

/// Rejects folders that are easily mistaken for a run or a checkpoint.
/// Errors   Fault::kConfig naming the folder to give instead.
void refuse_other_folders(const fs::path& folder) {
  const fs::path manifest = folder / kManifestName;
  if (fs::is_regular_file(manifest) &&
      read_file(manifest, Fault::kStorage).find("\"slipway.data\"") != std::string::npos)
    throw Error(Fault::kConfig, join(folder.string(),
                                     " is a data folder, not a model; give a run folder or a "
                                     "checkpoint folder, such as slipway train --data ",
                                     folder.string(), " --run DIR makes"));
  if (fs::exists(manifest) || fs::exists(folder / "checkpoints") || !fs::exists(folder / "config.json")) return;
  if (std::ranges::any_of(fs::directory_iterator(folder),
                          [](const fs::directory_entry& entry) { return entry.path().extension() == ".safetensors"; }))
    throw Error(Fault::kConfig, join(folder.string(),
                                     " is a Hugging Face folder, not a run or a checkpoint; give the run or checkpoint "
                                     "that it was exported from (commands that take a MODEL, and --init, read such a "
                                     "folder)"));
}

CheckpointRef resolve_checkpoint(const fs::path& model, const std::string& selector) {
  const fs::path path = normalize_path(model);
  if (!fs::exists(path))
    throw Error(Fault::kStorage, join("there is no ", path.string(), ": expected a run folder or a checkpoint folder"));
  if (path.extension() == ".partial")
    throw Error(Fault::kStorage,
                join(path.string(), " is a save that was never finished: name a folder step-<number>"));

  const auto step_in_name = parse_checkpoint_name(path.filename());
  if (!step_in_name && fs::is_directory(path)) refuse_other_folders(path);
  if (step_in_name || fs::exists(path / kManifestName)) {
    if (!selector.empty())
      throw Error(Fault::kConfig,
                  join("--checkpoint ", selector, " chooses within a run, but ", path.string(), " is one checkpoint"));
    return {step_in_name ? *step_in_name : read_manifest(path).info.step, path};
  }

  const fs::path checkpoints = fs::is_directory(path / "checkpoints") ? path / "checkpoints" : path;
  const auto refs = list_checkpoints(checkpoints);
  if (refs.empty())
    throw Error(Fault::kStorage,
                join(path.string(),
                     " holds no complete checkpoint: expected a run folder that has saved, or a folder step-<number>"));
  if (selector.empty()) return refs.back();

  const auto set_aside = list_set_aside(checkpoints);
  std::string set_aside_text;
  for (const CheckpointRef& ref : set_aside)
    set_aside_text += (set_aside_text.empty() ? "; set aside: " : ", ") + ref.folder.filename().string();
  for (const CheckpointRef& ref : set_aside)
    if (ref.folder.filename() == selector) return ref;
  std::optional<std::int64_t> step = parse_number(selector);
  if (selector == "best") {
    const auto best = best_checkpoint(checkpoints);
    if (!best)
      throw Error(
          Fault::kStorage,
          join(path.string(), " has no best checkpoint: none of its steps was both validated and saved; there are ",
               steps_text(refs)));
    step = best->step;
  } else if (!step) {
    throw Error(Fault::kConfig, join("--checkpoint is \"", selector, "\": expected best or a step, one of ",
                                     steps_text(refs), set_aside_text));
  }
  if (const auto match = std::ranges::find(refs, *step, &CheckpointRef::step); match != refs.end()) return *match;
  const auto has_step = [&](const CheckpointRef& ref) { return ref.step == *step; };
  const auto match = std::ranges::find_if(set_aside, has_step);
  if (match == set_aside.end())
    throw Error(Fault::kStorage,
                join(path.string(), " has no checkpoint of step ", *step, ": there are ", steps_text(refs),
                     set_aside_text, "; a run keeps its best and its newest ones, as many as checkpoint.keep says"));
  if (std::ranges::count_if(set_aside, has_step) > 1)
    throw Error(Fault::kConfig, join("--checkpoint ", selector, " is set aside more than once: name one of them",
                                     set_aside_text.substr(std::string_view("; set aside").size())));
  return *match;
}

}  // namespace

CheckpointRef find_checkpoint(const fs::path& model, const std::string& selector) {
  return with_storage_errors(model, [&] { return resolve_checkpoint(model, selector); });
}

std::optional<BestCheckpoint> best_checkpoint(const fs::path& checkpoints) {
  const fs::path path = checkpoints / kBestName;
  if (!fs::exists(path)) return std::nullopt;
  try {
    const Json json = read_json(path, Fault::kStorage);
    return BestCheckpoint{checked_count<std::int64_t>(json.at("step")), json.at("val_loss")};
  } catch (const nlohmann::json::exception& reason) {
    throw Error(Fault::kStorage, join(path.string(), " is damaged (", reason_of(reason),
                                      "): remove it, or choose a step with --checkpoint"));
  }
}

void mark_best(const fs::path& checkpoints, const std::optional<BestCheckpoint>& best) {
  if (best) atomic_write_file(checkpoints / kBestName, to_pretty({{"step", best->step}, {"val_loss", best->val_loss}}));
  else with_storage_errors(checkpoints, [&] { return fs::remove(checkpoints / kBestName); });
}

void prune_checkpoints(const fs::path& checkpoints, int keep, std::optional<std::int64_t> best_step) {
  const auto refs = list_checkpoints(checkpoints);
  const std::size_t keep_count = static_cast<std::size_t>(std::max(keep, 1));
  for (std::size_t i = 0; i + keep_count < refs.size(); ++i)
    if (refs[i].step != best_step) remove_checkpoint(refs[i].folder);
}

std::vector<std::int64_t> set_aside_after(const fs::path& checkpoints, std::int64_t step, const std::string& suffix) {
  std::vector<std::int64_t> renamed_steps;
  auto refs = list_checkpoints(checkpoints);
  for (auto ref = refs.rbegin(); ref != refs.rend() && ref->step > step; ++ref) {
    with_storage_errors(ref->folder, [&] { fs::rename(ref->folder, ref->folder.string() + suffix); });
    renamed_steps.insert(renamed_steps.begin(), ref->step);
  }
  return renamed_steps;
}

int remove_partials(const fs::path& checkpoints) {
  return with_storage_errors(checkpoints, [&] {
    std::vector<fs::path> leftovers;
    if (fs::is_directory(checkpoints))
      for (const auto& entry : fs::directory_iterator(checkpoints))
        if (is_leftover(entry.path().filename().string())) leftovers.push_back(entry.path());
    for (const fs::path& path : leftovers) {
      const std::string name = path.string();
      if (!name.ends_with(kReplacedSuffix)) continue;
      // a crash between the two renames of publish_folder(): restore the checkpoint
      const fs::path original = name.substr(0, name.size() - std::string_view(kReplacedSuffix).size());
      if (!fs::exists(original)) fs::rename(path, original);
    }
    for (const fs::path& path : leftovers) fs::remove_all(path);
    return static_cast<int>(leftovers.size());
  });
}

}  // namespace slipway
