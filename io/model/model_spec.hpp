// The shape of a model, defined once: configuration keys, checkpoints, GGUF and Hugging Face files all follow its
// fields.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "src/core/error.hpp"

namespace slipway {

/// Prefix of the keys of ModelSpec::provenance in a file's metadata.
inline constexpr std::string_view kProvenancePrefix = "slipway.";

/// What mixes the tokens of a sequence in a block.
enum class MixerKind { kAttention };
/// What follows the mixer in a block.
enum class FeedForwardKind { kSwiglu, kGelu };
struct BlockKind {
  MixerKind mixer = MixerKind::kAttention;
  FeedForwardKind feed_forward = FeedForwardKind::kSwiglu;
  bool operator==(const BlockKind&) const = default;
};
/// Parses a pattern over layers: a comma list of `mixer[+feedforward][*n]`, which repeats until there are `layers`. A
/// mixer alone is followed by `default_feed_forward`.
/// Errors   `fault`, naming the unknown word and the known ones.
std::vector<BlockKind> parse_blocks(const std::string& pattern, int layers, FeedForwardKind default_feed_forward,
                                    Fault fault);

/// The names of a field of ModelSpec in every format that stores it.
struct SpecField {
  const char* name;               ///< in words
  const char* json;               ///< in checkpoints, under `architecture`
  const char* key = "";           ///< of the configuration; empty: it follows from others
  const char* help = "";          ///< of the key
  const char* placeholder = "";   ///< of the key's value; empty: by its type
  const char* gguf = "";          ///< after "<architecture>."; empty: no key of its own
  const char* hugging_face = "";  ///< in config.json; empty: no key of its own
  bool omit_default = false;      ///< added later: files have it only where it is not the default
};

/// Everything about a model that is neither a weight nor its tokenizer.
struct ModelSpec {
  std::string architecture;  ///< of model_families(): llama.cpp's name
  int layers = 0;
  int width = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_width = 0;
  int ffn = 0;         ///< width inside the feed-forward layers
  int vocabulary = 0;  ///< rows of the embedding: as many as there are tokens, or more
  int context = 0;     ///< context length in tokens
  std::string blocks = "attention+swiglu";
  std::string rope_scaling = "none";  ///< "none", "linear" or "llama3"
  double rope_base = 10000.0;
  double rope_factor = 1, rope_low = 1, rope_high = 4;
  int rope_original_context = 8192;
  double norm_eps = 1e-5;
  bool tied = false;               ///< the head is the embedding
  bool qkv_bias = false;           ///< q, k and v have biases
  bool qk_norm = false;            ///< q and k are normalized by head
  bool output_bias = false;        ///< attention's output has a bias
  bool ffn_bias = false;           ///< both linear layers of a feed-forward layer have biases
  bool layer_norm = false;         ///< LayerNorm with a bias, in place of RMSNorm
  bool learned_positions = false;  ///< a position embedding of `context` rows, in place of RoPE
  std::string name;
  std::map<std::string, std::string> provenance;  ///< origin of the model; a GGUF stores it under `slipway.*`

  bool operator==(const ModelSpec&) const = default;

  /// The kind of every block.
  std::vector<BlockKind> block_kinds() const;
  /// The longest sequence that the model has positions for, in tokens.
  int max_positions() const { return learned_positions ? context : std::numeric_limits<int>::max(); }
  int query_width() const { return heads * head_width; }
  int kv_width() const { return kv_heads * head_width; }
  /// The divisors of RoPE's frequencies, one per pair of a head's dimensions; empty without scaling.
  std::vector<float> rope_freq_factors() const;

  /// Errors   `fault` when sizes contradict each other or the architecture, naming them and what is expected.
  ///          `source_name` begins the message.
  void check(const std::string& source_name, Fault fault) const;

  /// Calls `visit(SpecField, pointer to member)` for every field but the name and the provenance.
  template <class Visit>
  static void fields(Visit&& visit);
};

/// Describes the first field in which two models differ: "model.layers is 4 here and 12 there". Returns an empty string
/// when both models compute the same from the same weights.
std::string describe_difference(const ModelSpec& here, const ModelSpec& there);

template <class Visit>
void ModelSpec::fields(Visit&& visit) {
  visit(SpecField{.name = "the family (model.preset)", .json = "architecture"}, &ModelSpec::architecture);
  visit(SpecField{.name = "layers",
                  .json = "num_layers",
                  .key = "model.layers",
                  .help = "number of layers; 0: the preset's",
                  .gguf = "block_count",
                  .hugging_face = "num_hidden_layers"},
        &ModelSpec::layers);
  visit(SpecField{.name = "width",
                  .json = "hidden_size",
                  .key = "model.width",
                  .help = "hidden size; 0: the preset's",
                  .gguf = "embedding_length",
                  .hugging_face = "hidden_size"},
        &ModelSpec::width);
  visit(SpecField{.name = "heads",
                  .json = "num_heads",
                  .key = "model.heads",
                  .help = "attention heads; 0: the preset's",
                  .gguf = "attention.head_count",
                  .hugging_face = "num_attention_heads"},
        &ModelSpec::heads);
  visit(SpecField{.name = "kv_heads",
                  .json = "num_kv_heads",
                  .key = "model.kv_heads",
                  .help = "key-value heads; 0: the preset's",
                  .gguf = "attention.head_count_kv",
                  .hugging_face = "num_key_value_heads"},
        &ModelSpec::kv_heads);
  visit(SpecField{.name = "head width",
                  .json = "head_width",
                  .key = "model.head_width",
                  .help = "width of a query, key and value of one head; 0: model.width / model.heads",
                  .gguf = "attention.key_length",
                  .hugging_face = "head_dim"},
        &ModelSpec::head_width);
  visit(SpecField{.name = "ffn",
                  .json = "intermediate_size",
                  .key = "model.ffn",
                  .help = "hidden size of the feed-forward layers; 0: the preset's",
                  .gguf = "feed_forward_length",
                  .hugging_face = "intermediate_size"},
        &ModelSpec::ffn);
  visit(SpecField{.name = "head tied to the embedding",
                  .json = "tied",
                  .key = "model.tied",
                  .help = "share the weights of embedding and output head",
                  .placeholder = "on|off|preset",
                  .hugging_face = "tie_word_embeddings"},
        &ModelSpec::tied);
  visit(SpecField{.name = "context",
                  .json = "max_position_embeddings",
                  .key = "model.context",
                  .help = "context length that is exported, and the window of score; 0: train.sequence",
                  .placeholder = "TOKENS",
                  .gguf = "context_length",
                  .hugging_face = "max_position_embeddings"},
        &ModelSpec::context);
  visit(SpecField{.name = "the vocabulary",
                  .json = "vocab_size",
                  .key = "model.embedding_rows",
                  .help = "rows of the embedding and the head; 0: one for each token of the data",
                  .gguf = "vocab_size",
                  .hugging_face = "vocab_size"},
        &ModelSpec::vocabulary);
  visit(SpecField{.name = "blocks",
                  .json = "blocks",
                  .key = "model.blocks",
                  .help = "pattern of the layers, a comma list of mixer[+feedforward][*n] from attention and swiglu, "
                          "gelu; empty: the preset's",
                  .placeholder = "PATTERN",
                  .omit_default = true},
        &ModelSpec::blocks);
  visit(SpecField{.name = "RoPE base",
                  .json = "rope_theta",
                  .key = "model.rope_base",
                  .help = "RoPE base frequency; 0: 10,000 for llama, 1,000,000 for qwen",
                  .gguf = "rope.freq_base",
                  .hugging_face = "rope_theta"},
        &ModelSpec::rope_base);
  visit(SpecField{.name = "RoPE scaling",
                  .json = "rope_scaling",
                  .key = "model.rope_scaling",
                  .help = "how RoPE is stretched to longer texts; empty: not",
                  .placeholder = "none|linear|llama3",
                  .omit_default = true},
        &ModelSpec::rope_scaling);
  visit(SpecField{.name = "RoPE factor",
                  .json = "rope_factor",
                  .key = "model.rope_factor",
                  .help = "by which it is stretched; 0: 8 with llama3",
                  .omit_default = true},
        &ModelSpec::rope_factor);
  visit(SpecField{.name = "RoPE low frequency factor",
                  .json = "rope_low",
                  .key = "model.rope_low",
                  .help = "llama3: waves longer than the original context divided by this are stretched in full; 0: 1",
                  .omit_default = true},
        &ModelSpec::rope_low);
  visit(SpecField{.name = "RoPE high frequency factor",
                  .json = "rope_high",
                  .key = "model.rope_high",
                  .help = "llama3: waves shorter than the original context divided by this are not stretched; 0: 4",
                  .omit_default = true},
        &ModelSpec::rope_high);
  visit(SpecField{.name = "RoPE original context",
                  .json = "rope_original_context",
                  .key = "model.rope_original_context",
                  .help = "llama3: context before it was stretched; 0: 8,192",
                  .placeholder = "TOKENS",
                  .omit_default = true},
        &ModelSpec::rope_original_context);
  visit(SpecField{.name = "epsilon of the norms",
                  .json = "rms_norm_eps",
                  .key = "model.norm_eps",
                  .help = "epsilon of the norms; 0: 1e-6 for qwen, else 1e-5",
                  .gguf = "attention.layer_norm_rms_epsilon",
                  .hugging_face = "rms_norm_eps"},
        &ModelSpec::norm_eps);
  visit(SpecField{.name = "biases of q, k and v",
                  .json = "qkv_bias",
                  .key = "model.qkv_bias",
                  .help = "biases of queries, keys and values",
                  .placeholder = "on|off|preset"},
        &ModelSpec::qkv_bias);
  visit(SpecField{.name = "norms of q and k", .json = "qk_norm"}, &ModelSpec::qk_norm);
  visit(SpecField{.name = "bias of attention's output",
                  .json = "output_bias",
                  .key = "model.output_bias",
                  .help = "bias of attention's output",
                  .placeholder = "on|off|preset",
                  .omit_default = true},
        &ModelSpec::output_bias);
  visit(SpecField{.name = "biases of the feed-forward layers", .json = "ffn_bias", .omit_default = true},
        &ModelSpec::ffn_bias);
  visit(SpecField{.name = "LayerNorm", .json = "layer_norm", .omit_default = true}, &ModelSpec::layer_norm);
  visit(SpecField{.name = "learned positions", .json = "learned_positions", .omit_default = true},
        &ModelSpec::learned_positions);
}

}  // namespace slipway
