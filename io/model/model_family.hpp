// The families of models that Slipway knows: what files call them, and what sets them apart.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "io/model/file_names.hpp"
#include "io/model/model_spec.hpp"

namespace slipway {

/// Which biases of attention transformers' class of a family has.
enum class AttentionBiases { kAllOrNone, kQkv, kAll };

/// What llama.cpp calls an architecture and transformers a model type: its row says what sets its files apart, so that
/// no other code asks for its name.
struct ModelFamily {
  const char* hugging_face_class;
  ModelSpec defaults;  ///< its architecture, and the fields that sizes do not decide
  const FileNames* names = &kLlamaFileNames;
  AttentionBiases biases = AttentionBiases::kAllOrNone;  ///< by `attention_bias` in config.json
  bool has_head_width = true;                            ///< else it is width / heads, and a GGUF has no key for it
  bool has_kv_heads = true;                              ///< else there are as many as heads
  bool has_output_bias = true;                           ///< a GGUF may have a bias of attention's output
  bool has_rope_divisors = false;                        ///< llama.cpp reads llama3's RoPE scaling from a GGUF
  bool has_mlp_bias = false;                             ///< config.json has `mlp_bias`
  bool has_sliding_window = false;  ///< config.json has `use_sliding_window`, without which a window does nothing
  bool fuses_qkv = false;           ///< files keep q, k and v as one tensor
  bool permutes_rope = false;       ///< a GGUF has q and k with interleaved pairs of rows
  bool tied = false;                ///< where config.json does not say
  /// The pre-tokenizer that transformers' AutoTokenizer takes whatever tokenizer.json says; empty: what that says.
  std::string_view auto_pre_tokenizer = "";

  /// Whether transformers' class has the biases of attention that `model` has, and no other.
  bool has_biases_of(const ModelSpec& model) const;
};

const std::vector<ModelFamily>& model_families();
/// Null where there is none of that name.
const ModelFamily* find_family(std::string_view architecture);
/// Errors   Fault::kBug where there is none: ModelSpec::check() refuses such a spec.
const ModelFamily& family_of(const ModelSpec& model);
/// "llama, qwen2, qwen3 and gpt2", for messages.
std::string family_names();

/// A size of a family: what `model.preset = llama-8m` stands for.
struct Preset {
  ModelSpec spec;      ///< its name is the preset's; no vocabulary and no context
  double peak_lr = 0;  ///< AdamW's rate at the end of warmup, for about 4 thousand tokens a step and more
};
/// All of them, by family and, inside it, by rising size.
const std::vector<Preset>& presets();

}  // namespace slipway
