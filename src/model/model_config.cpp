#include "src/model/model_config.hpp"

#include <algorithm>
#include <vector>

#include "io/model/model_family.hpp"

namespace slipway {
namespace {

constexpr int kMaxLayers = 10'000;       // each layer is constructed, even for a plan
constexpr double kMaxParameters = 1e15;  // so that 64-bit counts of parameters cannot overflow

/// Estimates how many parameters the matrices have.
double matrix_parameters(const ModelSpec& model) {
  const double D = model.width, Q = std::max(D, static_cast<double>(model.heads) * model.head_width);
  return model.layers * (4 * D * Q + 3 * D * model.ffn) + 2.0 * model.vocabulary * D;
}

const Preset& find_preset(const std::string& name) {
  const auto found = std::ranges::find_if(presets(), [&](const Preset& one) { return one.spec.name == name; });
  if (found != presets().end()) return *found;
  std::vector<std::string> preset_names;
  for (const Preset& one : presets()) preset_names.push_back(one.spec.name);
  const std::string suggestion = nearest(name, preset_names);
  throw Error(Fault::kConfig, join("model.preset '", name, "' is unknown; ",
                                   suggestion.empty() ? join("write a family (", family_names(),
                                                             "), a dash and a size, such as llama-8m")
                                                      : "did you mean " + suggestion + "?"));
}

/// Calls `fn(field, pointer to member)` for the fields that have keys and are not switches.
template <class Fn>
void for_each_value(const Fn& fn) {
  ModelSpec::fields([&](const SpecField& field, auto member) {
    if constexpr (!std::is_same_v<decltype(member), bool ModelSpec::*>)
      if (*field.key != '\0') fn(field, member);
  });
}

/// A switch accepts the same spellings as a bool.
bool read_switch(const std::string& key, const std::string& text) {
  if (text == "on" || text == "true" || text == "1") return true;
  if (text == "off" || text == "false" || text == "0") return false;
  throw Error(Fault::kConfig, join(key, " is '", text, "', but on, off or preset is expected"));
}

}  // namespace

ModelSpec ModelConfig::unset_shape() {
  ModelSpec unset;
  for_each_value([&](const SpecField&, auto member) { unset.*member = {}; });
  return unset;
}

void ModelConfig::resolve(int sequence) {
  ModelSpec resolved = find_preset(preset).spec;
  for_each_value([&](const SpecField&, auto member) {
    if (shape.*member != std::decay_t<decltype(shape.*member)>{}) resolved.*member = shape.*member;
  });
  if (shape.kv_heads == 0)
    resolved.kv_heads = family_of(resolved).has_kv_heads ? std::min(resolved.kv_heads, resolved.heads) : resolved.heads;
  if (shape.context == 0) resolved.context = sequence;
  if (shape.rope_factor == 0) resolved.rope_factor = resolved.rope_scaling == "llama3" ? 8 : 1;
  resolved.vocabulary = shape.vocabulary;
  const bool is_divisible = resolved.width >= 1 && resolved.heads >= 1 && resolved.width % resolved.heads == 0;
  if (shape.head_width == 0) resolved.head_width = is_divisible ? resolved.width / resolved.heads : 0;
  ModelSpec::fields([&](const SpecField& field, auto member) {
    if constexpr (std::is_same_v<decltype(member), bool ModelSpec::*>) {
      if (*field.key == '\0') return;
      std::string& text = switches.try_emplace(field.key, "preset").first->second;
      if (text != "preset") resolved.*member = read_switch(field.key, text);
      text = resolved.*member ? "on" : "off";
    }
  });
  shape = resolved;
  check_shape();
  const std::string& default_blocks = family_of(shape).defaults.blocks;  // the canonical spelling of the same blocks
  if (ModelSpec canonical = shape; shape.layers <= kMaxLayers) {
    canonical.blocks = default_blocks;
    if (describe_difference(shape, canonical).empty()) shape = canonical;
  }
  if (shape.learned_positions && shape.context < sequence)
    throw Error(Fault::kConfig, join("model.context is ", shape.context, " but train.sequence is ", sequence,
                                     ": learned positions need a row for each token of a sequence; raise "
                                     "model.context, or lower train.sequence"));
}

void ModelConfig::check_shape() const {
  const ModelSpec& s = shape;
  if (s.layers < 1 || s.width < 1 || s.heads < 1 || s.kv_heads < 1 || s.ffn < 1 || s.context < 1)
    throw Error(Fault::kConfig,
                join("model.layers, width, heads, kv_heads, ffn and context must be at least 1; found ", s.layers, ", ",
                     s.width, ", ", s.heads, ", ", s.kv_heads, ", ", s.ffn, ", ", s.context));
  if (s.heads % s.kv_heads != 0)
    throw Error(Fault::kConfig, join("model.heads ", s.heads, " is no multiple of model.kv_heads ", s.kv_heads,
                                     ": every key-value head serves equally many query heads; change one of them"));
  if (s.head_width < 1 || (s.head_width % 2 != 0 && !s.learned_positions)) {
    if (s.width % s.heads != 0 || s.head_width * s.heads == s.width)
      throw Error(Fault::kConfig, join("model.width ", s.width, " divided by model.heads ", s.heads,
                                       " must be an even whole number, since rotary embedding turns pairs; change one "
                                       "of them, or set model.head_width"));
    throw Error(Fault::kConfig, join("model.head_width is ", s.head_width,
                                     "; an even number is expected, since rotary embedding turns pairs"));
  }
  if (s.vocabulary < 0)
    throw Error(Fault::kConfig, join("model.embedding_rows is ", s.vocabulary, "; 0 or more is expected"));
  if (s.norm_eps < 0 || s.rope_base <= 1)
    throw Error(Fault::kConfig, "model.norm_eps must be positive and model.rope_base above 1");
  ModelSpec complete = shape;
  complete.vocabulary = std::max(1, shape.vocabulary);
  const bool countable = complete.layers <= kMaxLayers && matrix_parameters(complete) <= kMaxParameters;
  if (countable) complete.check("model.*", Fault::kConfig);  // spec() refuses the others
}

ModelSpec ModelConfig::spec(int vocabulary) const {
  ModelSpec result = shape;
  if (result.layers > kMaxLayers)
    throw Error(Fault::kConfig, join("model.layers is ", result.layers, ", but at most ", kMaxLayers, " are expected"));
  if (result.vocabulary != 0 && result.vocabulary < vocabulary)
    throw Error(Fault::kConfig, join("model.embedding_rows is ", result.vocabulary, ", but the data has ", vocabulary,
                                     " tokens: each needs a row; raise it, or set it to 0"));
  result.vocabulary = std::max(result.vocabulary, vocabulary);
  if (const double matrices = matrix_parameters(result); matrices > kMaxParameters)
    throw Error(Fault::kConfig, join("model.layers ", result.layers, ", model.width ", result.width, ", model.ffn ",
                                     result.ffn, " and a vocabulary of ", result.vocabulary, " make about ", matrices,
                                     " parameters, but at most ", kMaxParameters, " are expected; lower one of them"));
  return result;
}

void ModelConfig::copy_shape(const ModelSpec& model, const std::function<bool(std::string_view key)>& is_set) {
  const ModelSpec& preset_spec = find_preset(preset).spec;
  ModelSpec::fields([&](const SpecField& field, auto member) {
    if (*field.key == '\0' || is_set(field.key)) return;
    using Value = std::decay_t<decltype(model.*member)>;
    if constexpr (std::is_same_v<Value, bool>) {
      switches[field.key] = model.*member ? "on" : "off";
    } else if constexpr (std::is_same_v<Value, double>) {  // a GGUF keeps it as f32
      const bool is_preset_value = static_cast<float>(model.*member) == static_cast<float>(preset_spec.*member);
      shape.*member = is_preset_value ? preset_spec.*member : model.*member;
    } else {
      shape.*member = model.*member;
    }
  });
}

double ModelConfig::preset_peak_lr() const { return find_preset(preset).peak_lr; }

}  // namespace slipway
