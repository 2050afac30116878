#include "src/eval/policy.hpp"

#include <vector>

#include "slipway_qa_policy.hpp"  // made by CMake from configs/qa_policy.json
#include "src/core/config.hpp"
#include "src/core/file.hpp"
#include "src/core/hash.hpp"
#include "src/core/json_error.hpp"

namespace slipway {
namespace {

bool is_range(const Json& value) {
  return value.is_array() && value.size() == 2 && value[0].is_number() && value[1].is_number() && value[0] <= value[1];
}

/// "number", "range" or "by architecture"; empty for anything else.
std::string value_kind(const Json& value) {
  if (value.is_number()) return "number";
  if (is_range(value)) return "range";
  if (!value.is_object() || value.empty()) return "";
  for (const Json& item : value)
    if (!item.is_number() && !is_range(item)) return "";
  return "by architecture";
}

GatePolicy parse_gate(const Json& entry, const std::string& source_name) {
  try {
    GatePolicy gate{.id = entry.at("id"),
                    .value = entry.at("value"),
                    .unit = entry.at("unit"),
                    .level = entry.at("level"),
                    .owner = entry.at("owner"),
                    .reason = entry.at("reason")};
    if (entry.contains("without_text"))
      gate.without_text = entry["without_text"].get<std::map<std::string, std::string>>();
    return gate;
  } catch (const nlohmann::json::exception& reason) {
    throw Error(Fault::kConfig, join(source_name, ": not a gate's policy (", reason_of(reason),
                                     "); each gate has id, value, unit, level, owner and reason"));
  }
}

void check(const GatePolicy& gate, const std::string& source_name) {
  const auto fail = [&](const std::string& what) {
    throw Error(Fault::kConfig, join(source_name, ": gate ", gate.id, " ", what));
  };
  if (value_kind(gate.value).empty())
    fail("has a value that is no number, no [least, most] and no object of these by architecture");
  if (gate.level != "fail" && gate.level != "warn" && gate.level != "off")
    fail(join("has level '", gate.level, "', but fail, warn or off is expected"));
  if (gate.owner.empty() || gate.reason.empty())
    fail("has no owner or no reason; a threshold that nobody answers for is none");
  for (const auto& [kind, verdict] : gate.without_text)
    if (verdict != "not_applicable" && verdict != "not_evaluated")
      fail(join("has '", verdict, "' for a ", kind, " without text, but not_applicable or not_evaluated is expected"));
}

Json to_json(const GatePolicy& gate) {
  return {{"id", gate.id},
          {"value", gate.value},
          {"unit", gate.unit},
          {"level", gate.level},
          {"owner", gate.owner},
          {"reason", gate.reason},
          {"without_text", gate.without_text}};
}

Json parse_policy(std::string_view text, const std::string& source_name) {
  Json json = parse_json(text, FileLocation{source_name}, Fault::kConfig);
  if (!json.is_object() || json.value("schema", Json()) != "slipway.qa_policy" ||
      json.value("schema_version", Json()) != 1 || !json.value("gates", Json()).is_array())
    throw Error(
        Fault::kConfig,
        join(source_name,
             ": schema is not slipway.qa_policy, version 1, with gates; copy configs/qa_policy.json and change that"));
  return json["gates"];
}

}  // namespace

Json GatePolicy::threshold(const std::string& architecture) const {
  if (!value.is_object()) return value;
  if (!value.contains(architecture))
    throw Error(Fault::kConfig, join("the policy of gate ", id, " has no value for architecture ", architecture,
                                     "; add one with --policy FILE"));
  return value[architecture];
}

QaPolicy QaPolicy::built_in() {
  QaPolicy policy;
  policy.source_ = "built in";
  for (const Json& entry : parse_policy(kBuiltInQaPolicy, "configs/qa_policy.json")) {
    GatePolicy gate = parse_gate(entry, "configs/qa_policy.json");
    check(gate, "configs/qa_policy.json");
    policy.gates_.insert_or_assign(gate.id, std::move(gate));
  }
  policy.update_sha256();
  return policy;
}

QaPolicy QaPolicy::load(const std::filesystem::path& path) {
  QaPolicy policy = built_in();
  policy.source_ = path.string();
  for (const Json& entry : parse_policy(read_file(path, Fault::kConfig), path.string())) {
    GatePolicy gate = parse_gate(entry, path.string());
    check(gate, path.string());
    policy.check_replacement(gate, path.string());
    policy.gates_.insert_or_assign(gate.id, std::move(gate));
  }
  policy.update_sha256();
  return policy;
}

void QaPolicy::check_replacement(const GatePolicy& gate, const std::string& source_name) const {
  const auto existing = gates_.find(gate.id);
  if (existing == gates_.end()) {
    std::vector<std::string> ids;
    for (const auto& [id, unused] : gates_) ids.push_back(id);
    const std::string suggestion = nearest(gate.id, ids);
    throw Error(Fault::kConfig, join(source_name, ": there is no gate '", gate.id, "'",
                                     suggestion.empty() ? "" : "; did you mean " + suggestion + "?",
                                     suggestion.empty() ? "; configs/qa_policy.json lists them" : ""));
  }
  if (gate.unit != existing->second.unit)
    throw Error(Fault::kConfig, join(source_name, ": gate ", gate.id, " is in ", existing->second.unit,
                                     ", but the file says ", gate.unit));
  if (value_kind(gate.value) != value_kind(existing->second.value))
    throw Error(Fault::kConfig, join(source_name, ": the value of gate ", gate.id, " is a ", value_kind(gate.value),
                                     ", but a ", value_kind(existing->second.value), " is expected"));
}

void QaPolicy::update_sha256() {
  Json entries = Json::array();
  for (const auto& [id, gate] : gates_) entries.push_back(to_json(gate));
  sha256_ = sha256_hex(to_line(entries));
}

const GatePolicy& QaPolicy::at(const std::string& id) const {
  const auto found = gates_.find(id);
  require(found != gates_.end(), join("gate ", id, " has no entry in configs/qa_policy.json"));
  return found->second;
}

}  // namespace slipway
