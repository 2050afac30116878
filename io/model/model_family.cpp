#include "io/model/model_family.hpp"

#include <algorithm>
#include <span>

namespace slipway {
namespace {

struct ModelSize {
  const char* name;
  int layers, width, heads, kv_heads, ffn;
  bool tied;
  double peak_lr;
};

/// Of llama, qwen2 and qwen3.
constexpr ModelSize kSizes[] = {
    {"1m", 4, 128, 4, 2, 384, true, 3e-3},        {"8m", 12, 256, 4, 4, 512, true, 2e-3},
    {"30m", 10, 512, 8, 8, 1280, true, 1.2e-3},   {"124m", 12, 768, 12, 12, 2048, true, 8e-4},
    {"500m", 24, 896, 14, 2, 4864, true, 5e-4},   {"1b", 22, 2048, 32, 4, 5632, false, 4e-4},
    {"7b", 32, 4096, 32, 32, 11008, false, 3e-4},
};

constexpr ModelSize kGpt2Sizes[] = {{"1m", 4, 128, 4, 4, 512, true, 3e-3}, {"8m", 10, 256, 4, 4, 1024, true, 2e-3}};

Preset preset_of(const ModelFamily& family, const ModelSize& size) {
  ModelSpec spec = family.defaults;
  spec.layers = size.layers, spec.width = size.width, spec.ffn = size.ffn;
  spec.heads = size.heads, spec.kv_heads = size.kv_heads, spec.head_width = size.width / size.heads;
  spec.tied = size.tied;
  spec.name = spec.architecture + "-" + size.name;
  return {std::move(spec), size.peak_lr};
}

}  // namespace

const std::vector<ModelFamily>& model_families() {
  static const std::vector<ModelFamily> kFamilies = {
      {.hugging_face_class = "LlamaForCausalLM",
       .defaults = {.architecture = "llama"},
       .has_rope_freq_factors = true,
       .has_mlp_bias = true,
       .permutes_rope = true,
       .config_defaults = {.context = 2048, .norm_eps = 1e-6}},
      {.hugging_face_class = "Qwen2ForCausalLM",
       .defaults = {.architecture = "qwen2", .rope_base = 1e6, .norm_eps = 1e-6, .qkv_bias = true},
       .biases = AttentionBiases::kQkv,
       .has_head_width = false,
       .has_output_bias = false,
       .has_sliding_window = true,
       .auto_pre_tokenizer = "qwen2"},
      {.hugging_face_class = "Qwen3ForCausalLM",
       .defaults = {.architecture = "qwen3", .rope_base = 1e6, .norm_eps = 1e-6, .qk_norm = true},
       .has_output_bias = false,
       .has_sliding_window = true,
       .config_defaults = {.head_width = 128, .context = 32768, .norm_eps = 1e-6}},
      {.hugging_face_class = "GPT2LMHeadModel",
       .defaults = {.architecture = "gpt2",
                    .blocks = "attention+gelu",
                    .qkv_bias = true,
                    .output_bias = true,
                    .ffn_bias = true,
                    .layer_norm = true,
                    .learned_positions = true},
       .names = &kGpt2FileNames,
       .biases = AttentionBiases::kAll,
       .has_head_width = false,
       .has_kv_heads = false,
       .fuses_qkv = true,
       .tied = true,
       .config_defaults = {.context = 1024}},
  };
  return kFamilies;
}

const ModelFamily* find_family(std::string_view architecture) {
  const auto& families = model_families();
  const auto found =
      std::ranges::find_if(families, [&](const auto& f) { return f.defaults.architecture == architecture; });
  return found == families.end() ? nullptr : &*found;
}

const ModelFamily& family_of(const ModelSpec& model) {
  const ModelFamily* const family = find_family(model.architecture);
  require(family != nullptr, join("family_of: the architecture '", model.architecture, "' is unknown"));
  return *family;
}

bool ModelFamily::has_biases_of(const ModelSpec& model) const {
  switch (biases) {
    case AttentionBiases::kQkv: return model.qkv_bias && !model.output_bias;
    case AttentionBiases::kAll: return model.qkv_bias && model.output_bias;
    case AttentionBiases::kAllOrNone: return model.qkv_bias == model.output_bias;
  }
  return false;
}

std::string family_names() {
  std::string names;
  const auto& families = model_families();
  for (std::size_t i = 0; i < families.size(); ++i)
    names += (i == 0 ? "" : i + 1 == families.size() ? " and " : ", ") + families[i].defaults.architecture;
  return names;
}

const std::vector<Preset>& presets() {
  static const std::vector<Preset> kPresets = [] {
    std::vector<Preset> result;
    for (const ModelFamily& family : model_families()) {
      const std::span<const ModelSize> sizes = family.defaults.learned_positions
                                                   ? std::span<const ModelSize>(kGpt2Sizes)
                                                   : std::span<const ModelSize>(kSizes);
      for (const ModelSize& size : sizes) result.push_back(preset_of(family, size));
    }
    return result;
  }();
  return kPresets;
}

}  // namespace slipway
