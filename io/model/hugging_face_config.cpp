#include "io/model/hugging_face_config.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string_view>

#include "io/model/model_family.hpp"
#include "src/core/json.hpp"

namespace slipway {
namespace {

const char* torch_name(DType dtype) {
  switch (dtype) {
    case DType::kF32: return "float32";
    case DType::kBf16: return "bfloat16";
    case DType::kF16: return "float16";
  }
  return "";
}

/// Typed access to a config.json.
class Config {
 public:
  explicit Config(const std::filesystem::path& path) : path_(path), json_(read_json(path, Fault::kStorage)) {
    if (!json_.is_object()) fail("it is no JSON object");
  }
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(Fault::kStorage, join(path_.string(), ": ", what));
  }

  bool has(const std::string& key) const { return json_.contains(key) && !json_[key].is_null(); }
  void get(const std::string& key, int& value) const {
    if (!has(key) || !json_[key].is_number_integer()) fail(join("the key ", key, " is missing or no integer"));
    const auto integer = json_[key].get<std::int64_t>();
    if (integer < 0 || integer > std::numeric_limits<int>::max())
      fail(join("the key ", key, " is ", integer, ", which is no size of a model"));
    value = static_cast<int>(integer);
  }
  void get(const std::string& key, double& value) const {
    if (!has(key) || !json_[key].is_number()) fail(join("the key ", key, " is missing or no number"));
    value = json_[key].get<double>();
  }
  void get(const std::string& key, bool& value) const {
    if (!has(key)) return;
    if (!json_[key].is_boolean()) fail(join("the key ", key, " is ", to_line(json_[key]), ", expected true or false"));
    value = json_[key].get<bool>();
  }
  std::string text(const std::string& key) const {
    return has(key) && json_[key].is_string() ? json_[key].get<std::string>() : "";
  }
  const Json& at(const std::string& key) const { return json_[key]; }
  [[noreturn]] void refuse(const std::string& key) const {
    fail(join("the key ", key, " is ", to_line(at(key)), ", which Slipway does not compute; take a model without"));
  }

 private:
  std::filesystem::path path_;
  const Json json_;
};

/// Refuses two keys that give one setting different values: versions of transformers differ in which one they use.
void refuse_conflict(const Config& config, const std::string& key, const Json& value, const std::string& other_key,
                     const Json& other_value) {
  if (value != other_value)
    config.fail(join("the key ", key, " is ", to_line(value), ", but ", other_key, " is ", to_line(other_value),
                     "; keep the one that is meant"));
}

double get_number(const Config& config, const std::string& key, const Json& object, const char* member) {
  if (!object.contains(member) || !object[member].is_number())
    config.fail(join("the key ", key, " has no number ", member));
  return object[member].get<double>();
}

/// The scaling in a RoPE dictionary, with the key names of newer transformers versions.
Json normalize_rope_scaling(Json rope) {
  if (!rope.is_object()) return rope;
  rope.erase("rope_theta");
  if (rope.contains("type") && !rope.contains("rope_type")) rope["rope_type"] = rope["type"];
  rope.erase("type");
  return rope;
}

/// llama3's context before scaling: from the RoPE dictionary, from the top level of config.json, or else `context`.
int original_context(const Config& config, const std::string& key, const Json& rope, int context) {
  constexpr const char* kOriginal = "original_max_position_embeddings";
  const bool in_rope = rope.contains(kOriginal);
  if (in_rope && config.has(kOriginal))
    refuse_conflict(config, kOriginal, config.at(kOriginal), join("that of ", key), rope[kOriginal]);
  if (!in_rope && !config.has(kOriginal)) return context;
  const Json& value = in_rope ? rope[kOriginal] : config.at(kOriginal);
  const double original = value.is_number() ? value.get<double>() : 0;
  if (!(original >= 1 && original <= std::numeric_limits<int>::max()) || original != std::floor(original))
    config.refuse(key);
  return static_cast<int>(original);
}

/// Older transformers versions write `rope_theta` and `rope_scaling`, newer ones both inside `rope_parameters`.
void read_rope(const Config& config, ModelSpec& model) {
  model.rope_base = ModelSpec().rope_base;  // transformers' default
  if (config.has("rope_theta")) config.get("rope_theta", model.rope_base);
  if (config.has("rope_scaling") && config.has("rope_parameters"))
    refuse_conflict(config, "rope_scaling", normalize_rope_scaling(config.at("rope_scaling")), "rope_parameters",
                    normalize_rope_scaling(config.at("rope_parameters")));
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!config.has(key)) continue;
    const Json& rope = config.at(key);
    if (!rope.is_object()) config.refuse(key);
    if (rope.contains("rope_theta")) {
      model.rope_base = get_number(config, key, rope, "rope_theta");
      if (config.has("rope_theta"))
        refuse_conflict(config, "rope_theta", config.at("rope_theta"), join("that of ", key), rope["rope_theta"]);
    }
    const Json type = rope.contains("rope_type") ? rope["rope_type"] : rope.value("type", Json("default"));
    std::set<std::string> known_keys = {"rope_theta", "rope_type", "type"};
    if (type == "default") {
      if (rope.contains("rope_type") || rope.value("factor", Json(1.0)) == 1.0)
        known_keys.insert("factor");  // not read there
    } else if (type == "linear" || type == "llama3") {
      model.rope_scaling = type.get<std::string>();
      model.rope_factor = get_number(config, key, rope, "factor");
      known_keys.insert("factor");
    } else {
      config.refuse(key);
    }
    if (type == "llama3") {
      model.rope_low = get_number(config, key, rope, "low_freq_factor");
      model.rope_high = get_number(config, key, rope, "high_freq_factor");
      model.rope_original_context = original_context(config, key, rope, model.context);
      known_keys.insert({"low_freq_factor", "high_freq_factor", "original_max_position_embeddings"});
    }
    if (rope.value("partial_rotary_factor", Json(1.0)) == 1.0) known_keys.insert("partial_rotary_factor");
    for (const auto& [rope_key, value] : rope.items())
      if (!known_keys.contains(rope_key) && !value.is_null()) config.refuse(key);
  }
  if (model.rope_scaling != "none" && model.rope_factor == 1) {  // which changes nothing
    const ModelSpec defaults;
    model.rope_scaling = defaults.rope_scaling;
    model.rope_low = defaults.rope_low, model.rope_high = defaults.rope_high;
    model.rope_original_context = defaults.rope_original_context;
  }
}

/// Refuses every key by which transformers would compute something that Slipway does not, naming it.
void refuse_unsupported_features(const Config& config, const ModelSpec& model) {
  const auto allow_only = [&](const char* key, const auto& value) {  // other types are refused, too
    if (config.has(key) && config.at(key) != Json(value)) config.refuse(key);
  };
  for (const char* key : {"use_sliding_window", "mlp_bias", "scale_attn_by_inverse_layer_idx", "add_cross_attention"})
    allow_only(key, false);
  for (const char* key : {"scale_attn_weights", "is_causal"}) allow_only(key, true);
  for (const char* key :
       {"partial_rotary_factor", "logits_scaling", "embedding_multiplier", "residual_multiplier", "logit_scale"})
    allow_only(key, 1.0);
  for (const char* key : {"num_experts", "num_local_experts", "clip_qkv", "attn_logit_softcapping",
                          "final_logit_softcapping", "attention_multiplier", "quantization_config", "no_rope_layers"})
    allow_only(key, 0);
  if (model.layer_norm) {
    if (config.has("activation_function") && config.at("activation_function") != "gelu_pytorch_tanh")
      allow_only("activation_function", "gelu_new");
  } else if (config.text("hidden_act") != "swish") {  // another name for silu
    allow_only("hidden_act", "silu");
  }
  allow_only("layer_types", std::vector<std::string>(static_cast<std::size_t>(model.layers), "full_attention"));
  // transformers applies the sliding_window of a qwen only with use_sliding_window; in other families a window shorter
  // than the context means another architecture.
  if (!family_of(model).has_sliding_window && config.has("sliding_window") &&
      !(config.at("sliding_window").is_number() && config.at("sliding_window") >= model.context))
    config.refuse("sliding_window");
}

Json rope_scaling_json(const ModelSpec& model) {
  if (model.rope_scaling == "none") return nullptr;
  Json json = {{"rope_type", model.rope_scaling}, {"factor", model.rope_factor}};
  if (model.rope_scaling != "llama3") return json;
  json["low_freq_factor"] = model.rope_low;
  json["high_freq_factor"] = model.rope_high;
  json["original_max_position_embeddings"] = model.rope_original_context;
  return json;
}

}  // namespace

std::string hugging_face_config(const ModelSpec& model, DType dtype, int bos, int eos) {
  const auto id = [](int token) { return token < 0 ? Json(nullptr) : Json(token); };
  const ModelFamily& family = family_of(model);
  Json json = {{"architectures", {family.hugging_face_class}},
               {"model_type", model.architecture},
               {"initializer_range", 0.02},
               {"use_cache", true},
               {"bos_token_id", id(bos)},
               {"eos_token_id", id(eos)},
               {"torch_dtype", torch_name(dtype)}};
  ModelSpec::fields([&](const SpecField& field, auto member) {
    const std::string key(family.names->config_key(field.hugging_face));
    if (key.empty() || (field.omit_default && model.*member == family.defaults.*member)) return;
    json[key] = model.*member;
  });
  if (model.layer_norm) {
    json["activation_function"] = "gelu_new";
    for (const char* key : {"attn_pdrop", "embd_pdrop", "resid_pdrop"}) json[key] = 0.0;
    return to_pretty(json);
  }
  json["hidden_act"] = "silu";
  json["attention_dropout"] = 0.0;
  json["rope_scaling"] = rope_scaling_json(model);
  if (family.biases == AttentionBiases::kAllOrNone) json["attention_bias"] = model.output_bias;
  if (family.has_mlp_bias) json["mlp_bias"] = false;
  if (family.has_sliding_window) json["use_sliding_window"] = false;
  return to_pretty(json);
}

ModelSpec spec_of_config(const std::filesystem::path& path) {
  const Config config(path);
  const std::string type = config.text("model_type");
  const ModelFamily* const family = find_family(type);
  if (family == nullptr) config.fail(join("the model_type is '", type, "', but Slipway knows ", family_names()));
  ModelSpec model = family->defaults;
  model.tied = family->tied;
  ModelSpec::fields([&](const SpecField& field, auto member) {
    std::string key(family->names->config_key(field.hugging_face));
    if (const std::string standard_key(field.hugging_face);
        !key.empty() && key != standard_key && config.has(standard_key)) {
      if (config.has(key)) refuse_conflict(config, key, config.at(key), standard_key, config.at(standard_key));
      key = standard_key;
    }
    if (key.empty() || key == "rope_theta" || (field.omit_default && !config.has(key))) return;
    if constexpr (!std::is_same_v<decltype(member), std::string ModelSpec::*>) {
      if (key == "num_key_value_heads" && !config.has(key)) model.kv_heads = model.heads;
      else if (key == "n_inner" && !config.has(key)) model.ffn = 4 * model.width;
      else if (key == "head_dim" && !config.has(key) && family->config_defaults.head_width == 0)
        model.head_width = model.width / std::max(1, model.heads);
      else if (!config.has(key) && family->config_defaults.*member != 0)
        model.*member = family->config_defaults.*member;
      else config.get(key, model.*member);
    }
  });
  if (!family->has_kv_heads) model.kv_heads = model.heads;
  if (family->names->config_key("head_dim").empty()) model.head_width = model.width / std::max(1, model.heads);
  if (!model.learned_positions) read_rope(config, model);
  if (family->biases == AttentionBiases::kAllOrNone && config.has("attention_bias")) {
    if (!config.at("attention_bias").is_boolean()) config.refuse("attention_bias");
    config.get("attention_bias", model.output_bias);
    model.qkv_bias = model.output_bias;
  }
  model.check(path.string(), Fault::kStorage);
  refuse_unsupported_features(config, model);
  return model;
}

}  // namespace slipway
