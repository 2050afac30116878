// The model families that Slipway knows: their names in files and their differences.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "io/model/file_names.hpp"
#include "io/model/model_spec.hpp"

namespace slipway {

/// Which attention biases the transformers class of a family has.
enum class AttentionBiases { kAllOrNone, kQkv, kAll };

/// An architecture of llama.cpp, a model type of transformers. All differences between families are fields here, so
/// that no other code compares the family's name.
struct ModelFamily {
  const char* hugging_face_class;
  ModelSpec defaults;  ///< the architecture, and the fields that do not depend on the model's size
  const FileNames* names = &kLlamaFileNames;
  AttentionBiases biases = AttentionBiases::kAllOrNone;  ///< by `attention_bias` in config.json
  bool has_head_width = true;                            ///< else it is width / heads, and a GGUF has no key for it
  bool has_kv_heads = true;                              ///< else there are as many as heads
  bool has_output_bias = true;                           ///< a GGUF may have a bias of the attention output
  bool has_rope_freq_factors = false;                    ///< llama.cpp reads llama3's RoPE scaling from a GGUF
  bool has_mlp_bias = false;                             ///< config.json has `mlp_bias`
  bool has_sliding_window = false;  ///< config.json has `use_sliding_window`, without which sliding_window is ignored
  bool fuses_qkv = false;           ///< files store q, k and v as one tensor
  bool permutes_rope = false;       ///< a GGUF stores the rows of q and k in interleaved pairs
  bool tied = false;                ///< default where config.json has no key for it
  /// transformers' values for keys that config.json lacks; a head width of 0 is width / heads.
  ModelSpec config_defaults = {.context = 32768, .norm_eps = 1e-6};
  /// The pre-tokenizer that transformers' AutoTokenizer uses regardless of tokenizer.json; empty: tokenizer.json's.
  std::string_view auto_pre_tokenizer = "";

  /// Whether the transformers class has exactly the attention biases that `model` has.
  bool has_biases_of(const ModelSpec& model) const;
};

const std::vector<ModelFamily>& model_families();
/// Null where no family has that name.
const ModelFamily* find_family(std::string_view architecture);
/// Errors   Fault::kBug where there is none: ModelSpec::check() refuses such a spec.
const ModelFamily& family_of(const ModelSpec& model);
/// "llama, qwen2, qwen3 and gpt2", for messages.
std::string family_names();

/// A size of a family, such as `model.preset = llama-8m`.
struct Preset {
  ModelSpec spec;      ///< its name is the preset's; vocabulary and context are 0
  double peak_lr = 0;  ///< AdamW's learning rate at the end of warmup, for about 4 thousand tokens a step and more
};
/// All presets, by family and then by increasing size.
const std::vector<Preset>& presets();

}  // namespace slipway
