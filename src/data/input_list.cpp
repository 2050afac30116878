#include "src/data/input_list.hpp"

#include <fnmatch.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <system_error>
#include <utility>

#include "io/data/compressed.hpp"
#include "src/core/error.hpp"
#include "src/core/file.hpp"
#include "src/core/partial_folder.hpp"

namespace slipway {
namespace {

namespace fs = std::filesystem;

bool matches(const std::string& glob, const fs::path& path) {
  return glob.empty() || ::fnmatch(glob.c_str(), path.filename().c_str(), 0) == 0 ||
         ::fnmatch(glob.c_str(), without_compression(path).filename().c_str(), 0) == 0;
}

/// Identifies a file independent of its path: device and inode.
using FileId = std::pair<dev_t, ino_t>;

/// The kind of a folder that slipway wrote; empty for other folders.
std::string slipway_folder_kind(const fs::path& folder) {
  std::error_code ignored;
  if (fs::exists(folder / kPartialMarker, ignored)) return "a folder that slipway is writing, or has left unfinished";
  if (fs::exists(folder / "config.ini", ignored) &&
      (fs::is_directory(folder / "checkpoints", ignored) || fs::is_directory(folder / "events", ignored)))
    return "a run folder";
  if (!fs::is_regular_file(folder / "manifest.json", ignored) || !fs::exists(folder / "manifest.sha256", ignored))
    return "";
  try {
    const std::string manifest = read_file(folder / "manifest.json", Fault::kData);
    if (manifest.find("\"slipway.data\"") != std::string::npos) return "a data folder";
    if (manifest.find("\"slipway.checkpoint\"") != std::string::npos) return "a checkpoint";
  } catch (const Error&) {  // unreadable: treated as any other folder
  }
  return "";
}

class InputLister {
 public:
  InputLister(const TextInputs& inputs, bool skip_bad) : glob_(inputs.glob), skip_bad_(skip_bad) {
    for (const std::string& path : inputs.excluded) {
      struct stat info {};
      if (::stat(path.c_str(), &info) == 0) excluded_.insert({info.st_dev, info.st_ino});
    }
  }

  void add_input(const std::string& text) {
    if (text.empty()) throw Error(Fault::kConfig, "--input is empty; give a file or a folder");
    fs::path path(text);
    struct stat info {};
    if (::lstat(path.c_str(), &info) != 0)
      throw Error(Fault::kData, join("cannot read ", text, ": ", errno_message(), "; check --input"));
    if (!path.has_filename()) path = path.parent_path();  // "texts/"
    if (!resolve(path, path.filename(), info)) return;
    if (!S_ISDIR(info.st_mode)) return add(path, path.filename(), info);
    if (const std::string kind = slipway_folder_kind(path); !kind.empty())
      throw Error(Fault::kData, join(text, " is ", kind, ", not text; give the texts themselves with --input"));
    list_folder(path);
  }

  InputList finish() {
    std::stable_sort(candidates_.begin(), candidates_.end(),
                     [](const Candidate& a, const Candidate& b) { return a.file.name < b.file.name; });
    std::set<FileId> seen_ids;
    for (Candidate& candidate : candidates_) {
      if (seen_ids.insert(candidate.id).second) list_.files.push_back(std::move(candidate.file));
      else list_.notices.add("same_file", candidate.file.name_on_disk());
    }
    return std::move(list_);
  }

 private:
  struct Candidate {
    InputFile file;
    FileId id;
  };

  void report_bad(const char* reason, const fs::path& path, const fs::path& name, const std::string& why) {
    if (!skip_bad_) throw Error(Fault::kData, join("cannot read ", path.string(), ": ", why, kBadInputRemedy));
    list_.skipped.add(reason, name.generic_string());
  }

  /// Follows a link; false when it is broken, which is bad input.
  bool resolve(const fs::path& path, const fs::path& name, struct stat& info) {
    if (!S_ISLNK(info.st_mode) || ::stat(path.c_str(), &info) == 0) return true;
    const int why = errno;
    std::error_code ignored;
    report_bad("unreadable", path, name,
               why == ELOOP ? "it is a link that leads back to itself"
               : why == ENOENT
                   ? join("it is a link to ", fs::read_symlink(path, ignored).string(), ", which does not exist")
                   : join("it is a link, and ", std::generic_category().message(why)));
    return false;
  }

  void add(const fs::path& path, const fs::path& name, const struct stat& info) {
    if (!S_ISREG(info.st_mode))
      return report_bad(
          "not_a_file", path, name,
          "it is neither a file nor a folder (a pipe, socket or device); write what it gives into a file first");
    if (excluded_.contains({info.st_dev, info.st_ino})) return list_.notices.add("own_output", name.generic_string());
    if (without_compression(path).extension() == ".parquet") refuse_parquet(path);
    candidates_.push_back({{path, without_compression(name).generic_string(), static_cast<std::uint64_t>(info.st_size)},
                           {info.st_dev, info.st_ino}});
  }

  [[noreturn]] void refuse_parquet(const fs::path& path) {
    const std::string from = path.string(),
                      to = fs::path(without_compression(path)).replace_extension(".jsonl").string();
    throw Error(
        Fault::kData,
        join(from, " is Parquet, which is not read; convert it with: python3 -c \"import pandas; pandas.read_parquet('",
             from, "').to_json('", to, "', orient='records', lines=True)\""));
  }

  void list_folder(const fs::path& top) {
    std::vector<fs::path> folders = {top};
    while (!folders.empty()) {
      const fs::path folder = std::move(folders.back());
      folders.pop_back();
      std::error_code reason;
      fs::directory_iterator entry(folder, reason);
      for (; !reason && entry != fs::directory_iterator(); entry.increment(reason))
        if (entry_is_folder(entry->path(), entry->path().lexically_relative(top))) folders.push_back(entry->path());
      if (reason)
        report_bad("unreadable", folder, folder == top ? folder.filename() : folder.lexically_relative(top),
                   reason.message());
    }
  }

  /// Adds one entry of a folder; true for a folder to be listed in turn.
  bool entry_is_folder(const fs::path& path, const fs::path& name) {
    struct stat info {};
    if (::lstat(path.c_str(), &info) != 0) {
      report_bad("unreadable", path, name, errno_message());
      return false;
    }
    if (S_ISDIR(info.st_mode)) {
      const bool is_slipway_folder = !slipway_folder_kind(path).empty();
      if (is_slipway_folder) list_.notices.add("own_output", name.generic_string());
      return !is_slipway_folder;
    }
    if (!matches(glob_, path)) return false;
    const bool is_link = S_ISLNK(info.st_mode);
    if (!resolve(path, name, info)) return false;
    if (is_link && S_ISDIR(info.st_mode)) list_.notices.add("linked_folder", name.generic_string());
    else add(path, name, info);
    return false;
  }

  std::string glob_;
  bool skip_bad_;
  std::set<FileId> excluded_;
  std::vector<Candidate> candidates_;
  InputList list_;
};

}  // namespace

fs::path without_compression(const fs::path& path) {
  return compression_of(path) == Compression::kNone ? path : fs::path(path).replace_extension();
}

std::string InputFile::name_on_disk() const {
  return compression_of(path) == Compression::kNone ? name : name + path.extension().string();
}

InputList list_inputs(const TextInputs& inputs, bool skip_bad) {
  if (inputs.paths.empty()) throw Error(Fault::kConfig, "nothing to read: give files or folders with --input PATH...");
  InputLister lister(inputs, skip_bad);
  for (const std::string& path : inputs.paths) lister.add_input(path);
  InputList list = lister.finish();
  if (list.files.empty()) {
    std::string why;
    for (const InputTally* tally : {&list.notices, &list.skipped})
      for (const std::string& phrase : to_phrases(tally->counts_json(), tally->places_json()))
        why += (why.empty() ? " (" : "; ") + phrase;
    throw Error(Fault::kData, join("no file to read below ", inputs.paths.front(),
                                   inputs.glob.empty() ? std::string() : join(" with a name like '", inputs.glob, "'"),
                                   why.empty() ? why : why + ")", "; check --input and --glob"));
  }
  return list;
}

}  // namespace slipway
