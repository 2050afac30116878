#include "src/model/description_json.hpp"

#include "src/core/json_number.hpp"

namespace slipway {
namespace {

/// Every key once: `visit(key, member)`.
template <class Model, class Visit>
void keys(Model& m, Visit&& visit) {
  visit("architecture", m.architecture);
  visit("num_layers", m.layers);
  visit("hidden_size", m.width);
  visit("num_heads", m.heads);
  visit("num_kv_heads", m.kv_heads);
  visit("head_width", m.head_width);
  visit("intermediate_size", m.ffn);
  visit("vocab_size", m.vocabulary);
  visit("max_position_embeddings", m.context);
  visit("rope_theta", m.rope_base);
  visit("rms_norm_eps", m.norm_eps);
  visit("tied", m.tied);
  visit("qkv_bias", m.qkv_bias);
  visit("qk_norm", m.qk_norm);
  visit("name", m.name);
}

}  // namespace

Json to_json(const ModelDescription& model) {
  Json json = Json::object();
  keys(model, [&](const char* key, const auto& member) { json[key] = member; });
  return json;
}

ModelDescription description_of(const Json& json, const std::string& called) {
  ModelDescription model;
  keys(model, [&](const char* key, auto& member) {
    try {
      using Member = std::decay_t<decltype(member)>;
      if constexpr (std::is_same_v<Member, int>) member = count_number<int>(json.at(key));
      else member = json.at(key).get<Member>();
    } catch (const nlohmann::json::exception&) {
      throw Error(Fault::kStorage, join(called, ": the architecture key ", key,
                                        " is missing or has another type; the checkpoint is not complete"));
    }
  });
  model.check(called, Fault::kStorage);
  return model;
}

}  // namespace slipway
