// Texts from files, folders, JSONL and their compressed forms, one document at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "src/core/config.hpp"
#include "src/data/document.hpp"

namespace slipway {

/// What is read: options of `tokenizer train` and `data prepare`.
struct TextInputs {
  std::vector<std::string> paths;  ///< files and folders
  std::string glob;                ///< pattern on the names of files found in folders; empty takes all

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("input", self.paths, {"files and folders: plain text, .jsonl, and .gz or .zst of both", "PATH"});
    visit("glob", self.glob, {"in folders, read only files whose name matches, such as '*.py'", "PATTERN"});
  }
};

/// How it is read. Keys are `data.*`.
struct TextConfig {
  std::int64_t document_bytes = 65'536;     ///< plain text is cut at line ends into documents of about this size
  std::int64_t max_line_bytes = 1'048'576;  ///< a longer JSONL line is bad input
  std::string on_bad = "error";             ///< what bad input does: error, or skip (and count by reason)
  std::string lane = "text";                ///< lane of documents that do not name one
  std::string lanes;                        ///< a lane registry to use in place of configs/lanes.json

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("data.document_bytes", self.document_bytes,
          {"plain text is cut at line ends into documents of about this size", "BYTES"});
    visit("data.max_line_bytes", self.max_line_bytes, {"longest line of a JSONL file", "BYTES"});
    visit("data.on_bad", self.on_bad,
          {"bad input: stop with an error, or skip it and count it by reason", "error|skip"});
    visit("data.lane", self.lane, {"lane of documents that name none", "NAME"});
    visit("data.lanes", self.lanes, {"lane registry (JSON) to use instead of the built-in one", "FILE"});
  }
  void check() const;  ///< Errors: Fault::kConfig naming the key
};

/// One file to read.
struct InputFile {
  std::filesystem::path path;  ///< to open it, as the user wrote it
  std::string name;            ///< below its input, without .gz or .zst: equal on every host and under any prefix
  std::uint64_t bytes = 0;     ///< on disk
};

/// The files of the inputs, ordered by the bytes of their names (equal names: by the order of the inputs), so that
/// neither the file system nor a shell decides the order. Symbolic links to folders are not followed.
/// Errors   Fault::kData for a path that is missing, for Parquet (with the command that converts it), and when
///          nothing is left to read; Fault::kConfig when no input is given.
std::vector<InputFile> list_inputs(const TextInputs& inputs);

/// Reads documents in order, within bounded memory.
///
///   TextSource source(inputs, config);
///   for (Document document; source.next(document);) ...
///
/// Bad input is an empty file, a blank, over-long or malformed JSONL line, a row without `text`, an unknown lane,
/// invalid UTF-8, and a file that cannot be read to its end. A plain file longer than `document_bytes` gives several
/// documents; a line is broken only when it is longer than kLongestLine.
/// Errors   Fault::kData with file and line for bad input, unless `on_bad` is skip: then it is left out and counted.
class TextSource {
 public:
  static constexpr std::size_t kLongestLine = 16 << 20;  ///< bytes of a plain text's line that are kept together

  TextSource(const TextInputs& inputs, const TextConfig& config);
  ~TextSource();
  TextSource(TextSource&&) noexcept;

  bool next(Document& document);  ///< false: all is read

  const std::map<std::string, std::int64_t>& skipped() const;  ///< by reason: empty_file, blank_line, bad_json, ...
  std::size_t files() const;
  std::uint64_t bytes_total() const;  ///< of all files, on disk
  std::uint64_t bytes_done() const;   ///< of the files read so far, for progress

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace slipway
