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
  bool second_pass;
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

  State(InputList inputs, const TextConfig& text_config, bool is_second_pass)
      : config(text_config),
        second_pass(is_second_pass),
        lanes(text_config.lanes.empty() ? LaneRegistry::built_in() : LaneRegistry::load(text_config.lanes)),
        files(std::move(inputs.files)),
        skipped(std::move(inputs.skipped)),
        notices(std::move(inputs.notices)) {
    config.check();
    if (!lanes.has(config.lane))
      throw Error(Fault::kConfig, join("lane '", config.lane, "' is not in the registry; known are ", lanes.names(),
                                       " (--data.lanes FILE for others)"));
    for (const InputFile& input : files) bytes_total += input.bytes;
  }

  /// Bad input ends the run or is counted; false, as the answer to "is this a good document".
  bool report_bad(const char* reason, std::int64_t at_line, const std::string& message) {
    if (config.on_bad == "error") {
      const bool is_guess = format.note != nullptr && format.format != TextFormat::kPlain && at_line > 0;
      throw Error(Fault::kData, join(FileLocation{file->path, at_line}, ": ", message,
                                     is_guess ? " (the file is read as JSON rows because it begins like them; "
                                                "--data.format text reads it as plain text)"
                                              : "",
                                     kBadInputRemedy));
    }
    skipped.add(reason, at_line > 0 ? join(file->name_on_disk(), ":", at_line) : file->name_on_disk());
    return false;
  }

  void note(const char* reason) { notices.add(reason, file->name_on_disk()); }

  void warn(const std::string& message) const {
    if (!second_pass) log::warn(message);
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
        if (next_in_file(document)) return true;
      } catch (const Error& read_error) {
        if (config.on_bad == "error") throw;
        warn(join(read_error.what(), " (left out from here on, as data.on_bad = skip says)"));
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
      return report_bad("empty_file", 0, "the file is empty");
    window.open(file->path);
    if (window.peek(kByteOrderMark.size()).starts_with(kByteOrderMark)) {
      window.skip(kByteOrderMark.size());
      note("byte_order_mark");
    }
    const std::string_view head = window.peek(kHeadBytes);
    if (head.size() < kHeadBytes && is_blank(head)) {
      report_bad("empty_file", 0,
                 head.empty() ? "the file is empty" : "the file holds nothing but blanks and line ends");
      close_file();
      return false;
    }
    if (window.reader().compression() != compression_of(file->path)) note("packed_by_content");
    format = detect_format(head.substr(0, kHeadBytes), file->path, config.format);
    if (format.note != nullptr) note(format.note);
    if (!format.refusal.empty()) report_bad("other_format", 0, format.refusal);
    if (!format.refusal.empty() || format.is_tokenizer) {
      close_file();
      return false;
    }
    return true;
  }

  /// The next document of the open file; false when there is none yet: it was bad, or the file is at its end.
  bool next_in_file(Document& document) {
    if (format.format == TextFormat::kArray) return next_element(document);  // which knows where it has to end
    if (window.peek(1).empty()) {
      close_file();
      return false;
    }
    return format.format == TextFormat::kRows ? next_line(document) : next_text(document);
  }

  void init_document(Document& document) const {
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
    const bool is_good = is_text(text);
    if (is_good) {
      init_document(document);
      document.text.assign(text);
    }
    line += count_lines(text);
    window.skip(text.size());
    return is_good;
  }

  bool is_text(std::string_view text) {
    const auto line_at = [&](std::size_t at) { return line + count_lines(text.substr(0, at)); };
    if (const std::size_t at = find_invalid_utf8(text); at != std::string_view::npos)
      return report_bad("invalid_utf8", line_at(at), "the text is not UTF-8");
    if (const std::size_t at = text.find('\0'); at != std::string_view::npos)
      return report_bad("nul_byte", line_at(at), "the text holds a NUL byte, so it is binary, damaged, or not UTF-8");
    return true;
  }

  /// The next line, whose first `scanned` bytes contain no line end.
  std::string_view long_line(std::size_t scanned) {
    const std::size_t max_bytes = std::max(scanned, kMaxLine);
    while (scanned < max_bytes) {
      const std::size_t needed = std::min(2 * scanned, max_bytes);
      const std::string_view text = window.peek(needed).substr(0, max_bytes);
      const std::size_t end = text.find('\n', scanned);
      if (end != std::string_view::npos) return text.substr(0, end + 1);
      if (text.size() < needed) return text;
      scanned = text.size();
    }
    warn(join(FileLocation{file->path, line}, ": a line longer than ", max_bytes, " bytes is broken into documents"));
    const std::string_view text = window.peek(max_bytes + 1);
    std::size_t split_at = std::min(max_bytes, text.size());
    const auto inside_character =
        [&](std::size_t at) {  // UTF-8 marks all bytes of a character but the first with 10......
          return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
        };
    for (int i = 0; i < 3 && inside_character(split_at); ++i) --split_at;
    return text.substr(0, split_at);
  }

  /// Takes one line of JSON lines; true when it is a good row.
  bool next_line(Document& document) {
    const auto limit = static_cast<std::size_t>(config.max_line_bytes);
    std::string_view text = window.peek(limit + 2);  // with "\r\n"
    const std::size_t end = text.find('\n');
    const std::size_t consumed = end == std::string_view::npos ? text.size() : end + 1;
    text = text.substr(0, std::min(end, text.size()));
    if (text.ends_with('\r')) text.remove_suffix(1);

    bool is_good = false;
    if (text.size() > limit) {
      if (lines_end_in_cr(text)) report_bad("bad_json", line, kCrLinesSentence);
      else report_long_row();
      skip_line();
    } else if (is_blank(text)) {
      report_bad("blank_line", line, "the line is blank, but each line of JSONL holds one object");
      window.skip(consumed);
    } else {
      is_good = take_row(document, text);
      window.skip(consumed);
    }
    ++line;
    return is_good;
  }

  void report_long_row() {
    report_bad("long_line", line,
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
    if (rows == 0) return fail_array("it is no JSON array, which begins with [");
    if (rows > 1 && next == ']') return end_array();
    if (rows > 1) {
      if (next != ',') return fail_array(next == '\0' ? "the array is not closed" : "a comma or ] is missing here");
      window.skip(1);
      skip_blanks();
    }
    if (!window.peek(1).starts_with('{')) return fail_array("an object is missing here; each row of the array is one");
    ++rows;
    return take_element(document);
  }

  bool take_element(Document& document) {
    const auto limit = static_cast<std::size_t>(config.max_line_bytes);
    JsonObjectScanner object;
    std::size_t scanned = 0;
    while (!object.found()) {
      const std::size_t needed = scanned + 1;
      const std::string_view text = window.peek(needed);
      if (text.size() < needed) return fail_array("the last object is not closed; the file was cut off");
      if (scanned > limit) return skip_element(object, scanned);
      scanned += object.scan(text.substr(scanned, std::max<std::size_t>(1, limit + 1 - std::min(limit, scanned))));
    }
    const std::string_view text = window.peek(scanned).substr(0, scanned);
    if (text.size() > limit) return skip_element(object, scanned);
    const bool is_good = take_row(document, text);
    line += count_lines(text);
    window.skip(scanned);
    return is_good;
  }

  bool skip_element(JsonObjectScanner& object, std::size_t scanned) {
    report_long_row();
    while (true) {
      line += count_lines(window.peek(scanned).substr(0, scanned));
      window.skip(scanned);
      if (object.found()) return false;
      const std::string_view text = window.peek(1);
      if (text.empty()) return fail_array("the last object is not closed; the file was cut off");
      scanned = object.scan(text);
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
    if (!window.peek(1).empty()) return fail_array("text follows the end of the array");
    close_file();
    return false;
  }

  /// The next row of a broken array cannot be found, so the rest is skipped.
  bool fail_array(const std::string& message) {
    report_bad("bad_json", line, message);
    close_file();
    return false;
  }

  bool take_row(Document& document, std::string_view text) {
    init_document(document);
    const RowError fault = read_row(text, config.text_field, document);
    if (fault.reason != nullptr) return report_bad(fault.reason, line + fault.line - 1, fault.message);
    if (!lanes.has(document.lane))
      return report_bad("unknown_lane", line,
                        join("the lane '", document.lane, "' is not in the registry (", lanes.names(), ")"));
    return true;
  }
};

TextSource::TextSource(InputList inputs, const TextConfig& config, bool second_pass)
    : state_(std::make_unique<State>(std::move(inputs), config, second_pass)) {}
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
