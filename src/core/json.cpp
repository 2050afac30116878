#include "src/core/json.hpp"

#include "src/core/file.hpp"

namespace slipway {

namespace {

constexpr std::size_t kLongestReason = 160;

/// `text` without its middle where it is long: the library quotes the whole token that it stopped at.
std::string shortened(const std::string& text) {
  if (text.size() <= kLongestReason) return text;
  const std::size_t kept = kLongestReason / 2;
  return text.substr(0, kept) + " ... " + text.substr(text.size() - kept);
}

}  // namespace

std::string json_reason(const nlohmann::json::exception& reason) {
  // "[json.exception.parse_error.101] parse error at line 1, column 7: syntax error while parsing value - <reason>"
  std::string text = reason.what();
  if (const std::size_t end = text.find("] "); text.starts_with('[') && end != std::string::npos)
    text.erase(0, end + 2);
  std::string place;
  constexpr std::string_view kPlace = "parse error at ";
  if (const std::size_t end = text.find(": "); text.starts_with(kPlace) && end != std::string::npos) {
    place = text.substr(kPlace.size(), end + 2 - kPlace.size());
    text.erase(0, end + 2);
  }
  constexpr std::string_view kSyntax = "syntax error while parsing ";
  if (const std::size_t dash = text.find(" - "); text.starts_with(kSyntax) && dash != std::string::npos)
    text.erase(0, dash + 3);
  return place + shortened(text);
}

Json parse_json(std::string_view text, const Where& where, Fault fault) {
  try {
    return Json::parse(text);
  } catch (const nlohmann::json::exception& reason) {
    throw Error(fault, join(where, ": not valid JSON (", json_reason(reason), ")"));
  }
}

Json read_json(const std::filesystem::path& path, Fault fault) {
  return parse_json(read_file(path, fault), Where{path}, fault);
}

std::string to_line(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string to_pretty(const Json& json) { return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }

}  // namespace slipway
