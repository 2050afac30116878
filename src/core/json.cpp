#include "src/core/json.hpp"

#include "src/core/file.hpp"
#include "src/core/json_flaw.hpp"

namespace slipway {

Json parse_json(std::string_view text, const Where& where, Fault fault) {
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

std::string to_line(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string to_pretty(const Json& json) { return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }

}  // namespace slipway
