#include "src/core/json.hpp"

#include <algorithm>
#include <cmath>

#include "src/core/file.hpp"
#include "src/core/json_flaw.hpp"

namespace slipway {
namespace {

bool all_finite(const Json& json) {
  if (json.is_number_float()) return std::isfinite(json.get<double>());
  return !json.is_structured() || std::all_of(json.begin(), json.end(), all_finite);
}

void name_non_finite(Json& json) {
  if (json.is_structured())
    for (Json& inside : json) name_non_finite(inside);
  if (!json.is_number_float()) return;
  const double value = json.get<double>();
  if (!std::isfinite(value)) json = std::isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
}

std::string dump(const Json& json, int indent) {
  if (all_finite(json)) return json.dump(indent, ' ', false, Json::error_handler_t::replace);
  Json named = json;
  name_non_finite(named);
  return dump(named, indent);
}

}  // namespace

int json_depth(std::string_view text) {
  int depth = 0, deepest = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted && c == '\\') ++i;
    else if (c == '"') quoted = !quoted;
    else if (!quoted && (c == '[' || c == '{')) deepest = std::max(deepest, ++depth);
    else if (!quoted && (c == ']' || c == '}')) --depth;
  }
  return deepest;
}

Json parse_json(std::string_view text, const Where& where, Fault fault) {
  if (const int depth = json_depth(text); depth > kDeepestJson)
    throw Error(fault, join(where, ": the JSON is nested ", depth, " deep, at most ", kDeepestJson, " is expected"));
  try {
    return Json::parse(text);
  } catch (const nlohmann::json::exception&) {
    const JsonFlaw flaw = flaw_of(text);
    throw Error(fault,
                join(where, ": not valid JSON (line ", flaw.line, ", column ", flaw.column, ": ", flaw.reason, ")"));
  }
}

Json read_json(const std::filesystem::path& path, Fault fault) {
  return parse_json(read_file(path, fault), Where{path}, fault);
}

std::string to_line(const Json& json) { return dump(json, -1); }

std::string to_pretty(const Json& json) { return dump(json, 2) + "\n"; }

}  // namespace slipway
