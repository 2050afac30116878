#include "io/model/gguf_checks.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <type_traits>

#include "src/core/error.hpp"

namespace slipway {
namespace {

/// Keys under `<architecture>.` that spec_of() reads or compares, besides those of ModelSpec::fields.
constexpr std::array<std::string_view, 3> kOtherSupportedKeys = {
    "attention.value_length", "attention.layer_norm_epsilon", "rope.dimension_count"};

bool is_field(std::string_view key) {
  bool found = false;
  ModelSpec::fields([&](const SpecField& field, auto) { found = found || key == field.gguf; });
  return found;
}

/// Keys that have no effect on their own, whatever their value.
constexpr std::array<std::string_view, 3> kIgnoredKeys = {
    "tensor_data_layout",                    // the order of q's and k's rows, by older converters
    "rope.scaling.original_context_length",  // no effect without scaling
    "rope.scaling.finetuned"};

/// Keys that have no effect with one of these values.
struct NeutralValue {
  std::string_view key;
  double value;
  double other_value;
};
constexpr std::array<NeutralValue, 16> kNeutralValues = {{{"rope.scale_linear", 0, 1},
                                                          {"rope.scaling.factor", 0, 1},
                                                          {"rope.scaling.attn_factor", 1, 1},
                                                          {"attention.clamp_kqv", 0, 0},
                                                          {"attention.max_alibi_bias", 0, 0},
                                                          {"attention.causal", 1, 1},
                                                          {"attention.shared_kv_layers", 0, 0},
                                                          {"attn_logit_softcapping", 0, 0},
                                                          {"final_logit_softcapping", 0, 0},
                                                          {"logit_scale", 0, 1},
                                                          {"residual_scale", 0, 1},
                                                          {"embedding_scale", 0, 1},
                                                          {"use_parallel_residual", 0, 0},
                                                          {"pooling_type", 0, 0},
                                                          {"leading_dense_block_count", 0, 0},
                                                          {"nextn_predict_layers", 0, 0}}};

template <std::size_t N>
bool has(const std::array<std::string_view, N>& keys, std::string_view key) {
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

std::optional<double> to_double(const GgufValue& value) {
  return std::visit(
      [](const auto& alternative) -> std::optional<double> {
        if constexpr (std::is_arithmetic_v<std::decay_t<decltype(alternative)>>)
          return static_cast<double>(alternative);
        else return std::nullopt;
      },
      value);
}

std::string describe_value(const GgufValue& value) {
  constexpr std::size_t kMax = 40;
  if (const std::optional<double> number = to_double(value)) return join(*number);
  if (const auto* text = std::get_if<std::string>(&value)) {
    std::string printable = text->substr(0, kMax);
    std::ranges::replace_if(
        printable, [](char c) { return c < ' ' || c > '~'; }, '?');
    return join("'", printable, text->size() > kMax ? "...'" : "'");
  }
  return "an array";
}

bool is_neutral(std::string_view key, const GgufValue& value, const ModelSpec& model) {
  const std::optional<double> number = to_double(value);
  if (!number) return false;
  if (key == "attention.scale") {  // 0: the default
    const double default_scale = 1 / std::sqrt(static_cast<double>(model.head_width));
    return *number == 0 || std::fabs(*number - default_scale) <= 1e-6 * default_scale;  // stored as f32
  }
  if (key == "attention.sliding_window") return *number == 0 || *number >= model.context;  // covers the context
  return std::ranges::any_of(kNeutralValues, [&](const NeutralValue& neutral) {
    return neutral.key == key && (*number == neutral.value || *number == neutral.other_value);
  });
}

}  // namespace

void refuse_unsupported_features(const GgufMetadata& metadata, const ModelSpec& model) {
  const auto refuse = [&](const std::string& what) {
    throw Error(Fault::kStorage,
                join(metadata.source_name(), ": ", what, ", which Slipway does not compute; take a model without"));
  };
  const std::string prefix = model.architecture + ".";
  const std::string scaling = metadata.text(prefix + "rope.scaling.type", "linear");  // llama.cpp's default
  if (scaling != "none" && scaling != "linear") refuse(join("RoPE scaling of type '", scaling, "'"));
  const bool has_experts = metadata.integer(prefix + "expert_count", 0) != 0;
  for (const auto& [key, value] : metadata) {
    if (!key.starts_with(prefix)) continue;
    const std::string_view suffix = std::string_view(key).substr(prefix.size());
    if (is_field(suffix) || has(kOtherSupportedKeys, suffix) || has(kIgnoredKeys, suffix) ||
        suffix == "rope.scaling.type" || is_neutral(suffix, value, model))
      continue;
    const bool is_rope_factor = suffix == "rope.scaling.factor" || suffix == "rope.scale_linear";
    if (is_rope_factor && (scaling == "none" || model.rope_scaling == "linear")) continue;
    if (!has_experts && suffix.starts_with("expert_")) continue;
    refuse(join("the key ", key, " is ", describe_value(value)));
  }

  const auto require_head_width = [&](const char* key, const char* what) {
    const std::int64_t width = metadata.integer(prefix + key, model.head_width);
    if (width != model.head_width) refuse(join(what, " ", width, " of ", model.head_width, " dimensions of a head"));
  };
  require_head_width("rope.dimension_count", "RoPE on");
  require_head_width("attention.value_length", "values of");
}

void refuse_partial_file(const GgufMetadata& metadata) {
  if (const std::int64_t parts = metadata.integer("split.count", 0); parts > 1)
    throw Error(Fault::kStorage,
                join(metadata.source_name(), ": this is part ", metadata.integer("split.no", 0) + 1, " of a model in ",
                     parts, " files; join them with: llama-gguf-split --merge FIRST_PART WHOLE.gguf"));
  if (const std::string type = metadata.text("general.type", "model"); type != "model")
    throw Error(Fault::kStorage, join(metadata.source_name(), ": general.type is ", describe_value(type),
                                      ", expected 'model'; name the file of the whole model"));
}

}  // namespace slipway
