// Texts from files, folders, JSON lines, JSON arrays and their compressed forms, one document at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "src/core/config.hpp"
#include "src/data/document.hpp"
#include "src/data/input_list.hpp"

namespace slipway {

/// How texts are read. Keys are `data.*`.
struct TextConfig {
  std::int64_t document_bytes = 65'536;     ///< plain text is cut at line ends into documents of about this size
  std::int64_t max_line_bytes = 1'048'576;  ///< a longer row is bad input
  std::string format = "auto";              ///< how files are read: auto, text, jsonl or json (TextFormat)
  std::string text_field = "text";          ///< the field of a row that holds its text
  std::string on_bad = "error";             ///< what bad input does: error, or skip (and count by reason)
  std::string lane = "text";                ///< lane of documents that do not name one
  std::string license;                      ///< license of documents that do not name one
  std::string lanes;                        ///< a lane registry to use in place of configs/lanes.json

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("data.document_bytes", self.document_bytes,
          {"plain text is cut at line ends into documents of about this size", "BYTES"});
    visit("data.max_line_bytes", self.max_line_bytes, {"longest row of JSON lines or of a JSON array", "BYTES"});
    visit("data.format", self.format,
          {"how files are read; auto: by name and first bytes; json: an array of rows", "auto|text|jsonl|json"});
    visit("data.text_field", self.text_field,
          {"field of a JSON row that holds its text", "NAME", HelpVisibility::kFirst});
    visit("data.on_bad", self.on_bad,
          {"bad input: stop with an error, or skip it and count it by reason", "error|skip", HelpVisibility::kFirst});
    visit("data.lane", self.lane, {"lane of documents that name none", "NAME"});
    visit("data.license", self.license, {"license of documents that name none, as an SPDX identifier", "SPDX"});
    visit("data.lanes", self.lanes, {"lane registry (JSON) to use instead of the built-in one", "FILE"});
  }
  void check() const;  ///< Errors: Fault::kConfig naming the key
};

/// Reads documents in order, within bounded memory.
///
///   TextSource source(inputs, config);
///   for (Document document; source.next(document);) ...
///
/// Bad input is what list_inputs() calls so, a file that is empty or blank, of another format, or cannot be read to its
/// end, text with invalid UTF-8 or a NUL byte, a blank, over-long or malformed row, one without a text, and an unknown
/// lane. A plain file longer than `document_bytes` gives several documents; a line is broken only when it is longer
/// than kMaxLine. Errors   Fault::kData with file and line for bad input, unless `on_bad` is skip: then it is left
/// out and counted.
class TextSource {
 public:
  static constexpr std::size_t kMaxLine = 16 << 20;  ///< bytes of a plain text's line that are kept together

  /// `second_pass`: the same inputs were read before, so warnings are not repeated.
  TextSource(InputList inputs, const TextConfig& config, bool second_pass = false);
  TextSource(const TextInputs& inputs, const TextConfig& config);
  ~TextSource();
  TextSource(TextSource&&) noexcept;

  bool next(Document& document);  ///< false: all is read

  const InputTally& skipped() const;  ///< bad input that was left out: empty_file, blank_line, bad_json, ...
  const InputTally& notices() const;  ///< what was recognized or ignored: rows_by_content, byte_order_mark, ...
  std::size_t files() const;
  std::uint64_t bytes_total() const;  ///< of all files, on disk
  std::uint64_t bytes_done() const;   ///< of the files read so far, for progress

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace slipway
