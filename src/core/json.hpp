// JSON: nlohmann's ordered type, and functions to read and write it.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "src/core/error.hpp"

namespace slipway {

/// Objects keep the order in which their keys were added.
using Json = nlohmann::ordered_json;

/// Deeper nesting is refused: no real file comes near it, and copying a value recurses.
inline constexpr int kMaxJsonDepth = 512;

/// The nesting depth of arrays and objects in `text`.
int json_depth(std::string_view text);

/// Parses `text`; `location` names it in the error.
/// Errors   `fault` with the reader's own reason when `text` is not JSON, or is nested deeper than kMaxJsonDepth.
Json parse_json(std::string_view text, const FileLocation& location, Fault fault);

/// Reads and parses a whole file.
Json read_json(const std::filesystem::path& path, Fault fault);

/// One line of JSON. Bytes that are not UTF-8 become U+FFFD, so that what we print is always JSON. A number that is not
/// finite, for which JSON has no form, becomes the text "NaN", "Infinity" or "-Infinity", and never null.
std::string to_line(const Json& json);

/// Indented JSON with a final newline, for files that people open; numbers as in to_line().
std::string to_pretty(const Json& json);

}  // namespace slipway
