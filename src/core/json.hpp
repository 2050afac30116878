// JSON: nlohmann's ordered type, and the few ways this program reads and writes it.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "src/core/error.hpp"

namespace slipway {

/// Objects keep the order in which their keys were added.
using Json = nlohmann::ordered_json;

/// What is wrong, in words for a user: "line 3, column 7: unexpected end of input; expected ']'", or, of a value that
/// was asked for as another type, "type must be string, but is number".
std::string json_reason(const nlohmann::json::exception& reason);

/// Parses `text`; `where` names it in the error.
/// Errors   `fault` with line, column and what was expected there when `text` is not JSON.
Json parse_json(std::string_view text, const Where& where, Fault fault);

/// Reads and parses a whole file.
Json read_json(const std::filesystem::path& path, Fault fault);

/// One line of JSON. Bytes that are not UTF-8 become U+FFFD, so that what we print is always JSON.
std::string to_line(const Json& json);

/// Indented JSON with a final newline, for files that people open.
std::string to_pretty(const Json& json);

}  // namespace slipway
