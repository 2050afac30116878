// Detects the format of a text file, by its name and its first bytes.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace slipway {

/// How a file is read.
enum class TextFormat {
  kPlain,  ///< text, cut into documents
  kRows,   ///< JSON lines: an object a line
  kArray,  ///< a JSON array of objects
};

/// What `detect_format` decided.
struct DetectedFormat {
  TextFormat format = TextFormat::kPlain;
  const char* note = nullptr;  ///< of an InputTally, when the content and not the name decided
  std::string refusal;         ///< not empty: why the file is not read, and what to do
  bool is_tokenizer = false;   ///< a tokenizer.json: never text
};

/// Decides how a file is read. `path` is the file on disk, whose name counts without .gz or .zst; `head` its first
/// bytes, unpacked and without a byte order mark; `requested` the key data.format: auto, text, jsonl or json.
///
/// `auto` reads as rows what is called .jsonl, .ndjson or .jsonlines, and what begins with a line {"name": ... }; as an
/// array what begins with [{"name":. Files of formats that are not text (packed otherwise, UTF-16, Parquet, ...) are
/// refused whatever is wanted.
DetectedFormat detect_format(std::string_view head, const std::filesystem::path& path, const std::string& requested);

inline constexpr std::size_t kHeadBytes = 1 << 16;  ///< examined per file: longer than usual first lines
inline constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace slipway
