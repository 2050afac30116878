#include "io/model/model_spec_json.hpp"

#include <type_traits>

#include "src/core/json_number.hpp"

namespace slipway {
namespace {

/// Calls `visit(key, pointer to member, whether it may be absent)` for every field that a checkpoint stores.
template <class Visit>
void for_each_key(const Visit& visit) {
  ModelSpec::fields([&](const SpecField& field, auto member) { visit(field.json, member, field.omit_default); });
  visit("name", &ModelSpec::name, false);
}

}  // namespace

Json to_json(const ModelSpec& model) {
  const ModelSpec defaults;
  Json json = Json::object();
  for_each_key([&](const char* key, auto member, bool omit_default) {
    if (!omit_default || model.*member != defaults.*member) json[key] = model.*member;
  });
  return json;
}

ModelSpec spec_from_json(const Json& json, const std::string& source_name) {
  ModelSpec model;
  for_each_key([&](const char* key, auto member, bool may_be_absent) {
    if (may_be_absent && json.is_object() && !json.contains(key)) return;
    try {
      using Value = std::decay_t<decltype(model.*member)>;
      if constexpr (std::is_same_v<Value, int>) model.*member = checked_count<int>(json.at(key));
      else model.*member = json.at(key).get<Value>();
    } catch (const nlohmann::json::exception&) {
      throw Error(Fault::kStorage, join(source_name, ": the architecture key ", key,
                                        " is missing or has another type; the checkpoint is not complete"));
    }
  });
  model.check(source_name, Fault::kStorage);
  return model;
}

}  // namespace slipway
