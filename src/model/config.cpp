#include "src/model/config.hpp"

#include <algorithm>

namespace slipway {
namespace {

struct Named {
  std::string family;
  const Preset* size;
};

Named find_preset(const std::string& preset) {
  const std::size_t dash = preset.find('-');
  const std::string family = preset.substr(0, dash);
  const bool known_family = family == "llama" || family == "qwen2" || family == "qwen3";
  if (known_family && dash != std::string::npos)
    for (const Preset& size : presets())
      if (preset.substr(dash + 1) == size.size) return {family, &size};
  std::vector<std::string> known;
  for (const char* name : {"llama-", "qwen2-", "qwen3-"})
    for (const Preset& size : presets()) known.push_back(std::string(name) + size.size);
  const std::string near = nearest(preset, known);
  throw Error(Fault::kConfig, join("model.preset '", preset, "' is unknown; ",
                                   near.empty() ? "write llama-, qwen2- or qwen3- and a size such as 8m"
                                                : "did you mean " + near + "?"));
}

template <class T>
void fill(T& value, T preset) {
  if (value == T{}) value = preset;
}

}  // namespace

const std::vector<Preset>& presets() {
  static const std::vector<Preset> kPresets = {
      {"1m", 4, 128, 4, 2, 384, true, 3e-3},        {"8m", 12, 256, 4, 4, 512, true, 2e-3},
      {"30m", 10, 512, 8, 8, 1280, true, 1.2e-3},   {"124m", 12, 768, 12, 12, 2048, true, 8e-4},
      {"500m", 24, 896, 14, 2, 4864, true, 5e-4},   {"1b", 22, 2048, 32, 4, 5632, false, 4e-4},
      {"7b", 32, 4096, 32, 32, 11008, false, 3e-4},
  };
  return kPresets;
}

void ModelConfig::resolve(int sequence) {
  const auto [family, size] = find_preset(preset);
  const bool llama = family == "llama";
  fill(layers, size->layers);
  fill(width, size->width);
  fill(heads, size->heads);
  fill(kv_heads, std::min(size->kv_heads, heads));
  fill(ffn, size->ffn);
  if (tied == "preset") tied = size->tied ? "on" : "off";
  fill(context, sequence);
  fill(rope_base, llama ? 1e4 : 1e6);
  fill(norm_eps, llama ? 1e-5 : 1e-6);

  if (layers < 1 || width < 1 || heads < 1 || kv_heads < 1 || ffn < 1 || context < 1)
    throw Error(Fault::kConfig, join("model.layers, width, heads, kv_heads, ffn and context must be at least 1; found ",
                                     layers, ", ", width, ", ", heads, ", ", kv_heads, ", ", ffn, ", ", context));
  if (tied == "true" || tied == "1") tied = "on";  // as every switch may be written
  if (tied == "false" || tied == "0") tied = "off";
  if (tied != "on" && tied != "off")
    throw Error(Fault::kConfig, join("model.tied is '", tied, "', but on, off or preset is expected"));
  if (heads % kv_heads != 0)
    throw Error(Fault::kConfig, join("model.heads ", heads, " is no multiple of model.kv_heads ", kv_heads,
                                     ": every key-value head serves equally many query heads; change one of them"));
  if (width % heads != 0 || width / heads % 2 != 0)
    throw Error(Fault::kConfig,
                join("model.width ", width, " divided by model.heads ", heads,
                     " must be an even whole number, since rotary embedding turns pairs; change one of them"));
  if (norm_eps < 0 || rope_base <= 1)
    throw Error(Fault::kConfig, "model.norm_eps must be positive and model.rope_base above 1");
}

/// Counts of parameters are 64-bit numbers, and keys may ask for more than those hold.
void ModelConfig::check_size(int vocabulary) const {
  constexpr int kMostLayers = 10'000;  // each is made, also by a plan
  if (layers > kMostLayers)
    throw Error(Fault::kConfig, join("model.layers is ", layers, ", but at most ", kMostLayers, " are expected"));
  constexpr double kMost = 1e15;
  const double D = width, matrices = layers * (4 * D * D + 3 * D * ffn) + 2.0 * vocabulary * D;
  if (matrices > kMost)
    throw Error(Fault::kConfig, join("model.layers ", layers, ", model.width ", width, ", model.ffn ", ffn,
                                     " and a vocabulary of ", vocabulary, " make about ", matrices,
                                     " parameters, but at most ", kMost, " are expected; lower one of them"));
}

ModelDescription ModelConfig::describe(int vocabulary) const {
  check_size(vocabulary);
  const std::string family = find_preset(preset).family;
  return {.architecture = family,
          .layers = layers,
          .width = width,
          .heads = heads,
          .kv_heads = kv_heads,
          .head_width = width / heads,
          .ffn = ffn,
          .vocabulary = vocabulary,
          .context = context,
          .rope_base = rope_base,
          .norm_eps = norm_eps,
          .tied = tied == "on",
          .qkv_bias = family == "qwen2",
          .qk_norm = family == "qwen3",
          .name = preset};
}

double ModelConfig::preset_peak_lr() const { return find_preset(preset).size->peak_lr; }

std::int64_t parameter_count(const ModelDescription& m, bool with_embeddings) {
  const std::int64_t D = m.width, Q = std::int64_t{m.heads} * m.head_width,
                     KV = std::int64_t{m.kv_heads} * m.head_width;
  std::int64_t block = 2 * D + Q * D + 2 * KV * D + D * Q + 3 * D * m.ffn;
  if (m.qkv_bias) block += Q + 2 * KV;
  if (m.qk_norm) block += 2 * m.head_width;
  const std::int64_t table = std::int64_t{m.vocabulary} * D;
  return m.layers * block + D + (with_embeddings ? table * (m.tied ? 1 : 2) : 0);
}

std::int64_t matmul_parameters(const ModelDescription& m) {
  const std::int64_t D = m.width, Q = std::int64_t{m.heads} * m.head_width,
                     KV = std::int64_t{m.kv_heads} * m.head_width;
  return m.layers * (2 * Q * D + 2 * KV * D + 3 * D * m.ffn) + std::int64_t{m.vocabulary} * D;
}

double training_flops(const ModelDescription& model, double tokens) {
  return 6.0 * static_cast<double>(matmul_parameters(model)) * tokens;
}

double attention_flops(const ModelDescription& m, double sequence, double sequences) {
  const double pairs =
      sequence * (sequence + 1) / 2 * sequences;  // causal: each token sees itself and what came before
  constexpr double kProducts = 2 + 5;             // forward q k, p v; backward: s again, dp, dq, dk, dv
  return kProducts * 2.0 * pairs * m.heads * m.head_width * m.layers;
}

}  // namespace slipway
