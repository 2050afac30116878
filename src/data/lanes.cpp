#include "src/data/lanes.hpp"

#include <algorithm>

#include "slipway_lanes.hpp"  // made by CMake from configs/lanes.json
#include "src/core/file.hpp"
#include "src/core/json.hpp"
#include "src/core/json_error.hpp"

namespace slipway {

LaneRegistry LaneRegistry::built_in() { return parse(kBuiltInLanes, "configs/lanes.json"); }

LaneRegistry LaneRegistry::load(const std::filesystem::path& path) {
  return parse(read_file(path, Fault::kData), path);
}

LaneRegistry LaneRegistry::parse(std::string_view text, const std::filesystem::path& source_name) {
  const Json json = parse_json(text, FileLocation{source_name}, Fault::kData);
  LaneRegistry registry;
  try {
    if (json.at("schema") != "slipway.lanes" || json.at("schema_version") != 1)
      throw Error(Fault::kData,
                  join(source_name.string(),
                       ": schema is not slipway.lanes, version 1; copy configs/lanes.json and change that"));
    for (const Json& lane : json.at("lanes"))
      registry.lanes_.push_back({lane.at("name"), lane.at("response_mode"), lane.at("meaning")});
  } catch (const nlohmann::json::exception& reason) {
    throw Error(Fault::kData, join(source_name.string(), ": not a lane registry (", reason_of(reason),
                                   "); each lane has name, response_mode and meaning"));
  }
  for (const Lane& lane : registry.lanes_) {
    constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz0123456789-_";
    if (lane.name.empty() || lane.name.find_first_not_of(kLetters) != std::string::npos)
      throw Error(Fault::kData, join(source_name.string(), ": lane '", lane.name,
                                     "' is not a name of lower-case letters, digits, '-' and '_'"));
    if (std::count_if(registry.lanes_.begin(), registry.lanes_.end(),
                      [&](const Lane& other) { return other.name == lane.name; }) > 1)
      throw Error(Fault::kData, join(source_name.string(), ": lane '", lane.name, "' stands there twice; remove one"));
  }
  return registry;
}

bool LaneRegistry::has(std::string_view name) const {
  return std::any_of(lanes_.begin(), lanes_.end(), [&](const Lane& lane) { return lane.name == name; });
}

std::string LaneRegistry::names() const {
  std::string text;
  for (const Lane& lane : lanes_) text += (text.empty() ? "" : ", ") + lane.name;
  return text;
}

}  // namespace slipway
