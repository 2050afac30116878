#include "io/safetensors_model.hpp"

#include <algorithm>
#include <limits>

#include "io/tensor_names.hpp"
#include "src/core/json.hpp"

namespace slipway {
namespace {

constexpr const char* kName = "slipway.name";

const char* class_name(const std::string& architecture) {
  if (architecture == "qwen2") return "Qwen2ForCausalLM";
  if (architecture == "qwen3") return "Qwen3ForCausalLM";
  return "LlamaForCausalLM";
}

const char* torch_name(DType dtype) {
  switch (dtype) {
    case DType::kF32: return "float32";
    case DType::kBf16: return "bfloat16";
    case DType::kF16: return "float16";
  }
  return "";
}

/// Typed questions to a config.json.
class Config {
 public:
  explicit Config(const std::filesystem::path& path) : path_(path), json_(read_json(path, Fault::kStorage)) {
    if (!json_.is_object()) fail("it is no JSON object");
  }
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(Fault::kStorage, join(path_.string(), ": ", what));
  }

  bool has(const char* key) const { return json_.contains(key) && !json_[key].is_null(); }
  int whole(const char* key) const {
    if (!has(key) || !json_[key].is_number_integer()) fail(join("the key ", key, " is missing or no integer"));
    const auto value = json_[key].get<std::int64_t>();
    if (value < 0 || value > std::numeric_limits<int>::max())
      fail(join("the key ", key, " is ", value, ", which is no size of a model"));
    return static_cast<int>(value);
  }
  double real(const char* key) const {
    if (!has(key) || !json_[key].is_number()) fail(join("the key ", key, " is missing or no number"));
    return json_[key].get<double>();
  }
  bool truth(const char* key) const { return has(key) && json_[key].is_boolean() && json_[key].get<bool>(); }
  std::string text(const char* key) const {
    return has(key) && json_[key].is_string() ? json_[key].get<std::string>() : "";
  }
  const Json& at(const char* key) const { return json_[key]; }

 private:
  std::filesystem::path path_;
  const Json json_;
};

/// Older transformers keep `rope_theta` by itself, newer ones inside `rope_parameters`.
double rope_base(const Config& config) {
  if (config.has("rope_theta")) return config.real("rope_theta");
  if (config.has("rope_parameters")) {
    const Json& inside = config.at("rope_parameters");
    if (inside.is_object() && inside.contains("rope_theta") && inside["rope_theta"].is_number())
      return inside["rope_theta"].get<double>();
  }
  return 10000.0;  // transformers' default
}

/// Every key that transformers obeys and that changes what is computed: as Slipway computes it, or refused by name.
void refuse_unsupported_features(const Config& config, const ModelDescription& model) {
  const auto refuse = [&](const char* key) {
    config.fail(join("the key ", key, " is ", to_line(config.at(key)),
                     ", which Slipway does not compute; take a model without"));
  };
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!config.has(key)) continue;
    if (!config.at(key).is_object()) refuse(key);
    for (const auto& [inside, value] : config.at(key).items()) {
      const bool plain = inside == "rope_theta" ||
                         ((inside == "rope_type" || inside == "type") && value == "default") ||
                         ((inside == "factor" || inside == "partial_rotary_factor") && value == 1.0);
      if (!plain) refuse(key);
    }
  }
  for (const char* key : {"use_sliding_window", "attention_bias", "mlp_bias"})  // wrong types are refused, too
    if (config.has(key) && config.at(key) != false) refuse(key);
  for (const char* key :
       {"partial_rotary_factor", "logits_scaling", "embedding_multiplier", "residual_multiplier", "logit_scale"})
    if (config.has(key) && config.at(key) != 1.0) refuse(key);
  for (const char* key : {"num_experts", "num_local_experts", "clip_qkv", "attn_logit_softcapping",
                          "final_logit_softcapping", "attention_multiplier", "quantization_config", "no_rope_layers"})
    if (config.has(key) && config.at(key) != 0) refuse(key);
  if (config.has("hidden_act") && config.at("hidden_act") != "silu") refuse("hidden_act");
  if (config.has("layer_types") &&
      !std::ranges::all_of(config.at("layer_types"), [](const Json& type) { return type == "full_attention"; }))
    refuse("layer_types");
  // The sliding_window of a qwen is obeyed only with use_sliding_window; llama has none, so a short one means another
  // kind.
  if (model.architecture == "llama" && config.has("sliding_window") &&
      !(config.at("sliding_window").is_number() && config.at("sliding_window") >= model.context))
    refuse("sliding_window");
}

}  // namespace

std::string hugging_face_config(const ModelDescription& model, DType dtype, int bos, int eos) {
  const auto id = [](int token) { return token < 0 ? Json(nullptr) : Json(token); };
  Json json = {{"architectures", {class_name(model.architecture)}},
               {"model_type", model.architecture},
               {"hidden_size", model.width},
               {"intermediate_size", model.ffn},
               {"num_hidden_layers", model.layers},
               {"num_attention_heads", model.heads},
               {"num_key_value_heads", model.kv_heads},
               {"head_dim", model.head_width},
               {"hidden_act", "silu"},
               {"max_position_embeddings", model.context},
               {"rms_norm_eps", model.norm_eps},
               {"rope_theta", model.rope_base},
               {"rope_scaling", nullptr},
               {"vocab_size", model.vocabulary},
               {"tie_word_embeddings", model.tied},
               {"attention_dropout", 0.0},
               {"initializer_range", 0.02},
               {"use_cache", true},
               {"bos_token_id", id(bos)},
               {"eos_token_id", id(eos)},
               {"torch_dtype", torch_name(dtype)}};
  if (model.architecture != "qwen2") json["attention_bias"] = false;
  if (model.architecture == "llama") json["mlp_bias"] = false;
  if (model.architecture != "llama") json["use_sliding_window"] = false;
  return to_pretty(json);
}

ModelDescription description_of_config(const std::filesystem::path& path) {
  const Config config(path);
  ModelDescription model;
  model.architecture = config.text("model_type");
  model.layers = config.whole("num_hidden_layers");
  model.width = config.whole("hidden_size");
  model.heads = config.whole("num_attention_heads");
  model.kv_heads = config.has("num_key_value_heads") ? config.whole("num_key_value_heads") : model.heads;
  model.head_width = config.has("head_dim") ? config.whole("head_dim") : model.width / std::max(1, model.heads);
  model.ffn = config.whole("intermediate_size");
  model.vocabulary = config.whole("vocab_size");
  model.context = config.whole("max_position_embeddings");
  model.rope_base = rope_base(config);
  model.norm_eps = config.real("rms_norm_eps");
  model.tied = config.truth("tie_word_embeddings");
  model.qkv_bias = model.architecture == "qwen2";
  model.qk_norm = model.architecture == "qwen3";
  model.check(path.string(), Fault::kStorage);
  refuse_unsupported_features(config, model);
  return model;
}

HuggingFaceModel::HuggingFaceModel(const std::filesystem::path& folder)
    : file_(folder / "model.safetensors"), description_(description_of_config(folder / "config.json")) {
  for (const auto& [key, value] : file_.metadata())
    if (key == kName) description_.name = value;
    else if (key.starts_with(kProvenancePrefix)) description_.provenance[key.substr(kProvenancePrefix.size())] = value;

  if (description_.layers > static_cast<int>(file_.tensors().size()))  // noticed before listing them
    throw Error(Fault::kStorage, join(folder.string(), ": ", description_.layers, " layers are declared, but only ",
                                      file_.tensors().size(), " tensors are there"));
  tensors_ = tensors_of(description_);
  for (const NamedTensor& wanted : tensors_) {
    const NamedTensor& found = file_.at(hugging_face_name(wanted.name)).tensor;
    if (found.shape != wanted.shape)
      throw Error(Fault::kStorage,
                  join(folder.string(), ": ", found.name, " has ", found.rows(), " rows of ", found.cols(),
                       ", expected ", wanted.rows(), " of ", wanted.cols(), " from config.json"));
  }
  for (const SafeTensor& entry : file_.tensors()) {
    const std::string canonical = gguf_name(entry.tensor.name);
    const bool known =
        std::any_of(tensors_.begin(), tensors_.end(), [&](const NamedTensor& one) { return one.name == canonical; });
    if (!known && !(description_.tied && canonical == "output.weight"))  // some folders hold a tied head twice
      throw Error(Fault::kStorage, join(folder.string(), ": the tensor ", entry.tensor.name, " has no place in this ",
                                        description_.architecture, " model"));
  }
}

void HuggingFaceModel::read(const std::string& name, std::span<float> out) const {
  const SafeTensor& entry = file_.at(hugging_face_name(name));
  require(static_cast<std::int64_t>(out.size()) == entry.tensor.size(),
          "HuggingFaceModel::read: the span does not fit the tensor");
  file_.read(entry, out);
}

}  // namespace slipway
