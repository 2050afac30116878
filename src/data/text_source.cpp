#include "src/data/text_source.hpp"

#include <fnmatch.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "io/compressed.hpp"
#include "src/core/file.hpp"
#include "src/core/json.hpp"
#include "src/core/log.hpp"
#include "src/data/lanes.hpp"

namespace slipway {
namespace {

namespace fs = std::filesystem;

/// The name without .gz or .zst, so that a packed file stands where the plain one would.
fs::path unpacked(const fs::path& path) {
  return compression_of(path) == Compression::kNone ? path : fs::path(path).replace_extension();
}

bool matches(const std::string& glob, const fs::path& path) {
  return glob.empty() || ::fnmatch(glob.c_str(), path.filename().c_str(), 0) == 0 ||
         ::fnmatch(glob.c_str(), unpacked(path).filename().c_str(), 0) == 0;
}

InputFile input_file(const fs::path& path, const fs::path& name) {
  if (unpacked(path).extension() == ".parquet") {
    const std::string from = path.string(), to = fs::path(unpacked(path)).replace_extension(".jsonl").string();
    throw Error(
        Fault::kData,
        join(from, " is Parquet, which is not read; convert it with: python3 -c \"import pandas; pandas.read_parquet('",
             from, "').to_json('", to, "', orient='records', lines=True)\""));
  }
  return {path, unpacked(name).generic_string(), fs::file_size(path)};
}

void list_folder(const fs::path& folder, const std::string& glob, std::vector<InputFile>& files) {
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file() && matches(glob, entry.path()))
      files.push_back(input_file(entry.path(), entry.path().lexically_relative(folder)));
}

/// A file's bytes with a window over what comes next: as much as one cut needs, and no more. Its memory serves file
/// after file.
class Window {
 public:
  void open(const fs::path& path) {
    reader_.emplace(path, Fault::kData);
    at_ = end_ = 0;
    ended_ = false;
  }
  void close() { reader_.reset(); }
  bool is_open() const { return reader_.has_value(); }

  /// What lies ahead: at least `wanted` bytes, unless the file ends before.
  std::string_view ahead(std::size_t wanted) {
    while (end_ - at_ < wanted && !ended_) {
      make_room(std::max(kBlock, wanted - (end_ - at_)));
      const std::size_t got = reader_->read(bytes_.get() + end_, room_ - end_);
      ended_ = got < room_ - end_;
      end_ += got;
    }
    return {bytes_.get() + at_, end_ - at_};
  }

  void skip(std::size_t count) { at_ += count; }
  std::uint64_t bytes_on_disk() const { return reader_ ? reader_->bytes_on_disk() : 0; }

 private:
  static constexpr std::size_t kBlock = 1 << 18;

  /// Moves what lies ahead to the front, with room for `count` bytes behind it.
  void make_room(std::size_t count) {
    const std::size_t kept = end_ - at_;
    std::unique_ptr<char[]> old;
    const char* from = bytes_.get() + at_;
    if (room_ < kept + count) {
      room_ = kept + count;
      old = std::exchange(bytes_, std::make_unique_for_overwrite<char[]>(room_));  // zeros would cost as reading does
    }
    if (kept > 0) std::memmove(bytes_.get(), from, kept);
    at_ = 0, end_ = kept;
  }

  std::optional<ByteReader> reader_;
  std::unique_ptr<char[]> bytes_;
  std::size_t room_ = 0, at_ = 0, end_ = 0;
  bool ended_ = false;
};

std::int64_t count_lines(std::string_view text) { return std::count(text.begin(), text.end(), '\n'); }

}  // namespace

void TextConfig::check() const {
  if (document_bytes < 1)
    throw Error(Fault::kConfig, join("data.document_bytes is ", document_bytes, "; expected 1 or more, such as 65536"));
  if (max_line_bytes < 1)
    throw Error(Fault::kConfig,
                join("data.max_line_bytes is ", max_line_bytes, "; expected 1 or more, such as 1048576"));
  if (on_bad != "error" && on_bad != "skip")
    throw Error(Fault::kConfig, join("data.on_bad is '", on_bad, "'; expected error or skip"));
}

std::vector<InputFile> list_inputs(const TextInputs& inputs) {
  if (inputs.paths.empty()) throw Error(Fault::kConfig, "nothing to read: give files or folders with --input PATH...");
  std::vector<InputFile> files;
  for (const std::string& text : inputs.paths) {
    const fs::path path(text);
    std::error_code reason;
    const fs::file_status status = fs::status(path, reason);
    if (!fs::exists(status))
      throw Error(Fault::kData,
                  join("cannot read ", text, ": ", reason ? reason.message() : "No such file or directory"));
    try {
      if (fs::is_directory(status)) list_folder(path, inputs.glob, files);
      else if (fs::is_regular_file(status)) files.push_back(input_file(path, path.filename()));
      else
        throw Error(Fault::kData, join(text, " is neither a file nor a folder; write what it gives into a file first"));
    } catch (const fs::filesystem_error& failed) {
      throw Error(Fault::kData, join("cannot list ", failed.path1().empty() ? path.string() : failed.path1().string(),
                                     ": ", failed.code().message()));
    }
  }
  if (files.empty())
    throw Error(Fault::kData, join("no file to read below ", inputs.paths.front(),
                                   inputs.glob.empty() ? std::string() : join(" with a name like '", inputs.glob, "'"),
                                   "; check --input and --glob"));
  std::stable_sort(files.begin(), files.end(), [](const InputFile& a, const InputFile& b) { return a.name < b.name; });
  return files;
}

struct TextSource::State {
  TextConfig config;
  LaneRegistry lanes;
  std::vector<InputFile> files;
  std::map<std::string, std::int64_t> skipped;
  std::uint64_t bytes_total = 0;
  std::uint64_t bytes_before = 0;  // of the files before the open one

  std::size_t next_file = 0;
  const InputFile* file = nullptr;  // the open one
  Window window;
  bool is_jsonl = false;
  bool is_fresh = true;   // nothing of the open file has been read
  std::int64_t line = 1;  // the one that comes next

  State(const TextInputs& inputs, const TextConfig& how)
      : config(how),
        lanes(how.lanes.empty() ? LaneRegistry::built_in() : LaneRegistry::load(how.lanes)),
        files(list_inputs(inputs)) {
    config.check();
    if (!lanes.has(config.lane))
      throw Error(Fault::kConfig, join("lane '", config.lane, "' is not in the registry; known are ", lanes.names(),
                                       " (--data.lanes FILE for others)"));
    for (const InputFile& each : files) bytes_total += each.bytes;
  }

  /// Bad input ends the run or is counted; false, as the answer to "is this a good document".
  bool bad(const char* reason, std::int64_t at_line, const std::string& sentence) {
    if (config.on_bad == "error")
      throw Error(Fault::kData, join(Where{file->path, at_line}, ": ", sentence,
                                     "; mend it, or leave such input out, counted, with --data.on_bad skip"));
    ++skipped[reason];
    return false;
  }

  void close_file() {
    bytes_before += file->bytes;
    window.close();
  }

  bool next(Document& document) {
    while (true) {
      if (!window.is_open() && next_file == files.size()) return false;
      try {
        if (!window.is_open()) open_file();
        if (is_jsonl ? next_row(document) : next_text(document)) return true;
      } catch (const Error& unreadable) {
        if (config.on_bad == "error") throw;
        log::warn(join(unreadable.what(), " (left out from here on, as data.on_bad = skip says)"));
        ++skipped["unreadable"];
        close_file();
      }
    }
  }

  void open_file() {
    file = &files[next_file++];
    is_jsonl = fs::path(file->name).extension() == ".jsonl";
    is_fresh = true;
    line = 1;
    window.open(file->path);
  }

  /// Nothing is left in the open file: true, and the file is closed.
  bool at_end() {
    const bool ended = window.ahead(1).empty();
    if (ended && is_fresh) bad("empty_file", 0, "the file is empty");
    if (ended) close_file();
    is_fresh = false;
    return ended;
  }

  void fill(Document& document, std::string_view text) const {
    document.text.assign(text);
    document.lane = config.lane;
    document.license.clear();
    document.source = "corpus";
    document.origin_path = file->name;
    document.line = line;
  }

  /// Takes whole lines up to document_bytes, or one line when it alone is longer.
  bool next_text(Document& document) {
    if (at_end()) return false;
    const auto limit = static_cast<std::size_t>(config.document_bytes);
    std::string_view text = window.ahead(limit + 1);
    if (text.size() > limit) {
      const std::size_t last = text.rfind('\n', limit - 1);
      text = last != std::string_view::npos ? text.substr(0, last + 1) : long_line(limit);
    }
    const std::size_t invalid = find_invalid_utf8(text);
    const bool good = invalid == std::string_view::npos ||
                      bad("invalid_utf8", line + count_lines(text.substr(0, invalid)), "the text is not UTF-8");
    if (good) fill(document, text);
    line += count_lines(text);
    window.skip(text.size());
    return good;
  }

  /// The line ahead, whose first `seen` bytes hold no line end.
  std::string_view long_line(std::size_t seen) {
    const std::size_t longest = std::max(seen, kLongestLine);
    while (seen < longest) {
      const std::size_t wanted = std::min(2 * seen, longest);
      const std::string_view text = window.ahead(wanted).substr(0, longest);
      const std::size_t end = text.find('\n', seen);
      if (end != std::string_view::npos) return text.substr(0, end + 1);
      if (text.size() < wanted) return text;
      seen = text.size();
    }
    log::warn(join(Where{file->path, line}, ": a line longer than ", longest, " bytes is broken into documents"));
    const std::string_view text = window.ahead(longest + 1);
    std::size_t cut = std::min(longest, text.size());
    const auto inside_character =
        [&](std::size_t at) {  // UTF-8 marks all bytes of a character but the first with 10......
          return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
        };
    for (int i = 0; i < 3 && inside_character(cut); ++i) --cut;
    return text.substr(0, cut);
  }

  /// Takes one line; true when it is a good row.
  bool next_row(Document& document) {
    if (at_end()) return false;
    const auto limit = static_cast<std::size_t>(config.max_line_bytes);
    std::string_view text = window.ahead(limit + 2);  // with "\r\n"
    const std::size_t end = text.find('\n');
    const std::size_t taken = end == std::string_view::npos ? text.size() : end + 1;
    text = text.substr(0, std::min(end, text.size()));
    if (text.ends_with('\r')) text.remove_suffix(1);

    bool good = false;
    if (text.size() > limit) {
      bad("long_line", line, join("the line is longer than data.max_line_bytes = ", limit, ", so raise that"));
      skip_line();
    } else {
      good = parse_row(document, text);
      window.skip(taken);
    }
    ++line;
    return good;
  }

  void skip_line() {
    while (true) {
      const std::string_view text = window.ahead(1);
      const std::size_t end = text.find('\n');
      window.skip(end == std::string_view::npos ? text.size() : end + 1);
      if (text.empty() || end != std::string_view::npos) return;
    }
  }

  bool parse_row(Document& document, std::string_view text) {
    if (text.find_first_not_of(" \t") == std::string_view::npos)
      return bad("blank_line", line, "the line is blank, but each line of JSONL holds one object");
    if (find_invalid_utf8(text) != std::string_view::npos) return bad("invalid_utf8", line, "the line is not UTF-8");
    const Json row = Json::parse(text, /*callback=*/nullptr, /*allow_exceptions=*/false);
    if (!row.is_object()) return bad("bad_json", line, "the line is not a JSON object");
    if (!row.contains("text")) return bad("no_text", line, "the row has no field 'text'");

    fill(document, "");
    struct Member {
      const char* name;
      std::string& value;
    };
    for (const Member& member : {Member{"text", document.text},
                                 {"lane", document.lane},
                                 {"license", document.license},
                                 {"source", document.source},
                                 {"origin_path", document.origin_path}}) {
      const auto found = row.find(member.name);
      if (found == row.end() || (found->is_null() && &member.value != &document.text)) continue;
      if (!found->is_string()) return bad("bad_field", line, join("the field '", member.name, "' is not a string"));
      member.value = found->get<std::string>();
    }
    if (document.text.empty()) return bad("empty_text", line, "the field 'text' is empty");
    if (!lanes.has(document.lane))
      return bad("unknown_lane", line,
                 join("the lane '", document.lane, "' is not in the registry (", lanes.names(), ")"));
    return true;
  }
};

TextSource::TextSource(const TextInputs& inputs, const TextConfig& config)
    : state_(std::make_unique<State>(inputs, config)) {}
TextSource::~TextSource() = default;
TextSource::TextSource(TextSource&&) noexcept = default;

bool TextSource::next(Document& document) { return state_->next(document); }
const std::map<std::string, std::int64_t>& TextSource::skipped() const { return state_->skipped; }
std::size_t TextSource::files() const { return state_->files.size(); }
std::uint64_t TextSource::bytes_total() const { return state_->bytes_total; }
std::uint64_t TextSource::bytes_done() const { return state_->bytes_before + state_->window.bytes_on_disk(); }

}  // namespace slipway
