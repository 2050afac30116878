// The model's keys and presets.
#pragma once

#include <string>
#include <vector>

#include "io/model_file.hpp"
#include "src/core/config.hpp"

namespace slipway {

/// A named size: what `model.preset = llama-8m` stands for.
struct Preset {
  const char* size;
  int layers, width, heads, kv_heads, ffn;
  bool tied;
  double peak_lr;  ///< AdamW's rate at the end of warmup, for about 4 thousand tokens a step and more
};

/// The sizes, smallest first; families are llama, qwen2 (q, k, v biases) and qwen3 (q and k norms).
const std::vector<Preset>& presets();

/// Which model. Keys are `model.*`; a 0 or "preset" takes the preset's value.
struct ModelConfig {
  std::string preset = "llama-8m";
  int layers = 0;
  int width = 0;
  int heads = 0;
  int kv_heads = 0;
  int ffn = 0;
  std::string tied = "preset";
  int context = 0;
  double rope_base = 0;
  double norm_eps = 0;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("model.preset", self.preset,
          {"family (llama, qwen2, qwen3) and size: 1m, 8m, 30m, 124m, 500m, 1b or 7b", "FAMILY-SIZE", Shown::kFirst});
    visit("model.layers", self.layers, "number of layers; 0: the preset's");
    visit("model.width", self.width, "hidden size; 0: the preset's");
    visit("model.heads", self.heads, "attention heads; 0: the preset's");
    visit("model.kv_heads", self.kv_heads, "key-value heads; 0: the preset's");
    visit("model.ffn", self.ffn, "hidden size of the feed-forward layers; 0: the preset's");
    visit("model.tied", self.tied, {"share the weights of embedding and output head", "on|off|preset"});
    visit("model.context", self.context,
          {"context length that is exported, and the window of score; 0: train.sequence", "TOKENS"});
    visit("model.rope_base", self.rope_base, "RoPE base frequency; 0: 10,000 for llama, 1,000,000 for qwen");
    visit("model.norm_eps", self.norm_eps, "epsilon of the norms; 0: 1e-5 for llama, 1e-6 for qwen");
  }

  /// Puts the preset's values where nothing was given, and the rest from the run.
  /// Errors   Fault::kConfig for an unknown preset (naming the nearest) or sizes that cannot be.
  void resolve(int sequence);
  /// The complete shape. Call after resolve(). Errors: Fault::kConfig for more parameters than can be counted.
  ModelDescription describe(int vocabulary) const;
  /// The preset's learning rate. Errors: Fault::kConfig for an unknown preset.
  double preset_peak_lr() const;

 private:
  void check_size(int vocabulary) const;
};

/// Parameters of the whole model; `with_embeddings` counts embedding and head.
std::int64_t parameter_count(const ModelDescription& model, bool with_embeddings);

/// Parameters that a token multiplies with: all matrices but the embedding, head included (also when tied).
std::int64_t matmul_parameters(const ModelDescription& model);

/// Operations of one training step over `tokens` tokens: 6 x matmul parameters x tokens (forward 2, backward 4).
double training_flops(const ModelDescription& model, double tokens);

/// Operations of attention's own products for one sequence of T tokens, forward and backward, causal half counted.
double attention_flops(const ModelDescription& model, double sequence, double sequences);

}  // namespace slipway
