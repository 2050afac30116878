// One row of JSON lines or of a JSON array, as a document.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "src/data/document.hpp"

namespace slipway {

/// Why a row is not a document.
struct RowError {
  const char* reason = nullptr;  ///< of an InputTally; null: the row is good
  std::string message;
  std::int64_t line = 1;  ///< of the row, counted from 1
};

/// Reads `text`, one JSON object, into `document`: `text_field` is its text, and `lane`, `license`, `source` and
/// `origin_path` replace what `document` already says where the row has them. The lane is not looked up.
RowError read_row(std::string_view text, const std::string& text_field, Document& document);

/// Whether `text`, one line by its line feeds, is JSON lines that end in CR alone, as classic Mac OS wrote them.
bool lines_end_in_cr(std::string_view text);
inline constexpr char kCrLinesSentence[] =
    "the lines end in CR, but those of JSON lines end in LF; convert them with tr '\\r' '\\n' < FILE > lf.jsonl";

/// Finds the end of a JSON object, incrementally.
class JsonObjectScanner {
 public:
  /// The number of bytes of `text` that belong to the object: all of them until the end is found.
  std::size_t scan(std::string_view text);
  bool found() const { return found_; }

 private:
  int depth_ = 0;
  bool in_string_ = false, escaped_ = false, found_ = false;
};

}  // namespace slipway
