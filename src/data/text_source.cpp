#include "src/data/text_source.hpp"

#include <algorithm>
#include <utility>

#include "src/core/error.hpp"
#include "src/core/log.hpp"
#include "src/data/lanes.hpp"
#include "src/data/row.hpp"
#include "src/data/text_format.hpp"
#include "src/data/text_window.hpp"

namespace slipway {
namespace {

constexpr std::int64_t kMaxBytes = std::int64_t{1} << 30;  // of a document or a row: they are held in memory

std::int64_t count_lines(std::string_view text) { return std::count(text.begin(), text.end(), '\n'); }

bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n") == std::string_view::npos; }

}  // namespace

void TextConfig::check() const {
  if (document_bytes < 1 || document_bytes > kMaxBytes)
    throw Error(Fault::kConfig,
                join("data.document_bytes is ", document_bytes, "; expected 1 to ", kMaxBytes, ", such as 65536"));
  if (max_line_bytes < 1 || max_line_bytes > kMaxBytes)
    throw Error(Fault::kConfig,
                join("data.max_line_bytes is ", max_line_bytes, "; expected 1 to ", kMaxBytes, ", such as 1048576"));
  if (format != "auto" && format != "text" && format != "jsonl" && format != "json")
    throw Error(Fault::kConfig, join("data.format is '", format, "'; expected auto, text, jsonl or json"));
  if (text_field.empty())
    throw Error(Fault::kConfig, "data.text_field is empty; expected the name of a field, such as text");
  if (find_invalid_utf8(license) != std::string_view::npos)
    throw Error(Fault::kConfig, "data.license is not UTF-8; expected an SPDX identifier, such as MIT");
  if (on_bad != "error" && on_bad != "skip")
    throw Error(Fault::kConfig, join("data.on_bad is '", on_bad, "'; expected error or skip"));
}

struct TextSource::State {
  TextConfig config;
  bool again;
  LaneRegistry lanes;
  std::vector<InputFile> files;
  InputTally skipped, notices;
  std::uint64_t bytes_total = 0;
  std::uint64_t bytes_before = 0;  // of the files before the open one

  std::size_t next_file = 0;
  const InputFile* file = nullptr;  // the open one
  TextWindow window;
  DetectedFormat format;  // of the open file
  std::int64_t line = 1;  // the one that comes next
  std::int64_t rows = 0;  // of an array, read so far

  State(InputList inputs, const TextConfig& how, bool were_read)
      : config(how),
        again(were_read),
        lanes(how.lanes.empty() ? LaneRegistry::built_in() : LaneRegistry::load(how.lanes)),
        files(std::move(inputs.files)),
        skipped(std::move(inputs.skipped)),
        notices(std::move(inputs.notices)) {
    config.check();
    if (!lanes.has(config.lane))
      throw Error(Fault::kConfig, join("lane '", config.lane, "' is not in the registry; known are ", lanes.names(),
                                       " (--data.lanes FILE for others)"));
    for (const InputFile& each : files) bytes_total += each.bytes;
  }

  /// Bad input ends the run or is counted; false, as the answer to "is this a good document".
  bool bad(const char* reason, std::int64_t at_line, const std::string& message) {
    if (config.on_bad == "error") {
      const bool guessed = format.note != nullptr && format.format != TextFormat::kPlain && at_line > 0;
      throw Error(Fault::kData, join(FileLocation{file->path, at_line}, ": ", message,
                                     guessed ? " (the file is read as JSON rows because it begins like them; "
                                               "--data.format text reads it as plain text)"
                                             : "",
                                     kBadInputRemedy));
    }
    skipped.add(reason, at_line > 0 ? join(file->name_on_disk(), ":", at_line) : file->name_on_disk());
    return false;
  }

  void note(const char* reason) { notices.add(reason, file->name_on_disk()); }

  void warn(const std::string& message) const {
    if (!again) log::warn(message);
  }

  void close_file() {
    if (window.reader().skipped_zero_padding()) note("gzip_padding");
    bytes_before += file->bytes;
    window.close();
  }

  bool next(Document& document) {
    while (true) {
      if (!window.is_open() && next_file == files.size()) return false;
      try {
        if (!window.is_open() && !open_file()) continue;
        if (next_of_file(document)) return true;
      } catch (const Error& unreadable) {
        if (config.on_bad == "error") throw;
        warn(join(unreadable.what(), " (left out from here on, as data.on_bad = skip says)"));
        skipped.add("unreadable", file->name_on_disk());
        bytes_before += file->bytes;
        window.close();
      }
    }
  }

  /// Opens the next file; false when it is not read, and closed again.
  bool open_file() {
    file = &files[next_file++];
    format = {};
    line = 1;
    rows = 0;
    if (file->bytes == 0 && compression_of(file->path) != Compression::kNone)  // else its decoder calls it cut off
      return bad("empty_file", 0, "the file is empty");
    window.open(file->path);
    if (window.peek(kByteOrderMark.size()).starts_with(kByteOrderMark)) {
      window.skip(kByteOrderMark.size());
      note("byte_order_mark");
    }
    const std::string_view head = window.peek(kHeadBytes);
    if (head.size() < kHeadBytes && is_blank(head)) {
      bad("empty_file", 0, head.empty() ? "the file is empty" : "the file holds nothing but blanks and line ends");
      close_file();
      return false;
    }
    if (window.reader().compression() != compression_of(file->path)) note("packed_by_content");
    format = detect_format(head.substr(0, kHeadBytes), file->path, config.format);
    if (format.note != nullptr) note(format.note);
    if (!format.refusal.empty()) bad("other_format", 0, format.refusal);
    if (!format.refusal.empty() || format.is_tokenizer) {
      close_file();
      return false;
    }
    return true;
  }

  /// The next document of the open file; false when there is none yet: it was bad, or the file is at its end.
  bool next_of_file(Document& document) {
    if (format.format == TextFormat::kArray) return next_element(document);  // which knows where it has to end
    if (window.peek(1).empty()) {
      close_file();
      return false;
    }
    return format.format == TextFormat::kRows ? next_line(document) : next_text(document);
  }

  void fill(Document& document) const {
    document.text.clear();
    document.lane = config.lane;
    document.license = config.license;
    document.source = "corpus";
    document.origin_path = file->name;
    document.line = line;
  }

  /// Takes whole lines up to document_bytes, or one line when it alone is longer.
  bool next_text(Document& document) {
    const auto limit = static_cast<std::size_t>(config.document_bytes);
    std::string_view text = window.peek(limit + 1);
    if (text.size() > limit) {
      const std::size_t last = text.rfind('\n', limit - 1);
      text = last != std::string_view::npos ? text.substr(0, last + 1) : long_line(limit);
    }
    const bool good = is_text(text);
    if (good) {
      fill(document);
      document.text.assign(text);
    }
    line += count_lines(text);
    window.skip(text.size());
    return good;
  }

  bool is_text(std::string_view text) {
    const auto line_at = [&](std::size_t at) { return line + count_lines(text.substr(0, at)); };
    if (const std::size_t at = find_invalid_utf8(text); at != std::string_view::npos)
      return bad("invalid_utf8", line_at(at), "the text is not UTF-8");
    if (const std::size_t at = text.find('\0'); at != std::string_view::npos)
      return bad("nul_byte", line_at(at), "the text holds a NUL byte, so it is binary, damaged, or not UTF-8");
    return true;
  }

  /// The next line, whose first `seen` bytes contain no line end.
  std::string_view long_line(std::size_t seen) {
    const std::size_t longest = std::max(seen, kMaxLine);
    while (seen < longest) {
      const std::size_t wanted = std::min(2 * seen, longest);
      const std::string_view text = window.peek(wanted).substr(0, longest);
      const std::size_t end = text.find('\n', seen);
      if (end != std::string_view::npos) return text.substr(0, end + 1);
      if (text.size() < wanted) return text;
      seen = text.size();
    }
    warn(join(FileLocation{file->path, line}, ": a line longer than ", longest, " bytes is broken into documents"));
    const std::string_view text = window.peek(longest + 1);
    std::size_t cut = std::min(longest, text.size());
    const auto inside_character =
        [&](std::size_t at) {  // UTF-8 marks all bytes of a character but the first with 10......
          return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
        };
    for (int i = 0; i < 3 && inside_character(cut); ++i) --cut;
    return text.substr(0, cut);
  }

  /// Takes one line of JSON lines; true when it is a good row.
  bool next_line(Document& document) {
    const auto limit = static_cast<std::size_t>(config.max_line_bytes);
    std::string_view text = window.peek(limit + 2);  // with "\r\n"
    const std::size_t end = text.find('\n');
    const std::size_t taken = end == std::string_view::npos ? text.size() : end + 1;
    text = text.substr(0, std::min(end, text.size()));
    if (text.ends_with('\r')) text.remove_suffix(1);

    bool good = false;
    if (text.size() > limit) {
      if (lines_end_in_cr(text)) bad("bad_json", line, kCrLinesSentence);
      else bad_length();
      skip_line();
    } else if (is_blank(text)) {
      bad("blank_line", line, "the line is blank, but each line of JSONL holds one object");
      window.skip(taken);
    } else {
      good = take_row(document, text);
      window.skip(taken);
    }
    ++line;
    return good;
  }

  void bad_length() {
    bad("long_line", line,
        join("the row is longer than data.max_line_bytes = ", config.max_line_bytes, ", so raise that"));
  }

  void skip_line() {
    while (true) {
      const std::string_view text = window.peek(1);
      const std::size_t end = text.find('\n');
      window.skip(end == std::string_view::npos ? text.size() : end + 1);
      if (text.empty() || end != std::string_view::npos) return;
    }
  }

  /// Takes one element of a JSON array, or the brackets around them; true when it is a good row.
  bool next_element(Document& document) {
    skip_blanks();
    const std::string_view peek = window.peek(1);
    const char next = peek.empty() ? '\0' : peek.front();
    if (rows == 0 && next == '[') {
      window.skip(1);
      skip_blanks();
      rows = 1;
      if (!window.peek(1).starts_with(']')) return false;
      return end_array();
    }
    if (rows == 0) return end_badly("it is no JSON array, which begins with [");
    if (rows > 1 && next == ']') return end_array();
    if (rows > 1) {
      if (next != ',') return end_badly(next == '\0' ? "the array is not closed" : "a comma or ] is missing here");
      window.skip(1);
      skip_blanks();
    }
    if (!window.peek(1).starts_with('{')) return end_badly("an object is missing here; each row of the array is one");
    ++rows;
    return take_element(document);
  }

  bool take_element(Document& document) {
    const auto limit = static_cast<std::size_t>(config.max_line_bytes);
    ObjectEnd object;
    std::size_t seen = 0;
    while (!object.found()) {
      const std::size_t wanted = seen + 1;
      const std::string_view text = window.peek(wanted);
      if (text.size() < wanted) return end_badly("the last object is not closed; the file was cut off");
      if (seen > limit) return skip_element(object, seen);
      seen += object.scan(text.substr(seen, std::max<std::size_t>(1, limit + 1 - std::min(limit, seen))));
    }
    const std::string_view text = window.peek(seen).substr(0, seen);
    if (text.size() > limit) return skip_element(object, seen);
    const bool good = take_row(document, text);
    line += count_lines(text);
    window.skip(seen);
    return good;
  }

  bool skip_element(ObjectEnd& object, std::size_t seen) {
    bad_length();
    while (true) {
      line += count_lines(window.peek(seen).substr(0, seen));
      window.skip(seen);
      if (object.found()) return false;
      const std::string_view text = window.peek(1);
      if (text.empty()) return end_badly("the last object is not closed; the file was cut off");
      seen = object.scan(text);
    }
  }

  void skip_blanks() {
    for (std::string_view text = window.peek(1); !text.empty(); text = window.peek(1)) {
      const std::size_t count = std::min(text.find_first_not_of(" \t\r\n"), text.size());
      line += count_lines(text.substr(0, count));
      window.skip(count);
      if (count < text.size()) return;
    }
  }

  /// After the last row only blanks may follow.
  bool end_array() {
    window.skip(1);
    skip_blanks();
    if (!window.peek(1).empty()) return end_badly("text follows the end of the array");
    close_file();
    return false;
  }

  /// The next row of a broken array cannot be found, so the rest is skipped.
  bool end_badly(const std::string& message) {
    bad("bad_json", line, message);
    close_file();
    return false;
  }

  bool take_row(Document& document, std::string_view text) {
    fill(document);
    const RowFault fault = read_row(text, config.text_field, document);
    if (fault.reason != nullptr) return bad(fault.reason, line + fault.line - 1, fault.message);
    if (!lanes.has(document.lane))
      return bad("unknown_lane", line,
                 join("the lane '", document.lane, "' is not in the registry (", lanes.names(), ")"));
    return true;
  }
};

TextSource::TextSource(InputList inputs, const TextConfig& config, bool again)
    : state_(std::make_unique<State>(std::move(inputs), config, again)) {}
TextSource::TextSource(const TextInputs& inputs, const TextConfig& config)
    : TextSource(list_inputs(inputs, config.on_bad == "skip"), config) {}
TextSource::~TextSource() = default;
TextSource::TextSource(TextSource&&) noexcept = default;

bool TextSource::next(Document& document) { return state_->next(document); }
const InputTally& TextSource::skipped() const { return state_->skipped; }
const InputTally& TextSource::notices() const { return state_->notices; }
std::size_t TextSource::files() const { return state_->files.size(); }
std::uint64_t TextSource::bytes_total() const { return state_->bytes_total; }
std::uint64_t TextSource::bytes_done() const { return state_->bytes_before + state_->window.compressed_bytes_read(); }

}  // namespace slipway
