// A model as files hold it: what every checkpoint, GGUF and safetensors file can be asked, whatever its layout.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "io/block_quant.hpp"
#include "src/core/error.hpp"

namespace slipway {

/// Begins the keys of ModelDescription::provenance in a file's metadata.
inline constexpr std::string_view kProvenancePrefix = "slipway.";

/// Everything about a model that is neither a weight nor its tokenizer.
struct ModelDescription {
  std::string architecture;  ///< "llama", "qwen2" or "qwen3": llama.cpp's names
  int layers = 0;
  int width = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_width = 0;
  int ffn = 0;  ///< width inside the feed-forward block
  int vocabulary = 0;
  int context = 0;  ///< tokens that the model is meant to see at once
  double rope_base = 10000.0;
  double norm_eps = 1e-5;
  bool tied = false;      ///< the head is the embedding
  bool qkv_bias = false;  ///< q, k and v have biases (qwen2)
  bool qk_norm = false;   ///< q and k are normalized by head (qwen3)
  std::string name;
  std::map<std::string, std::string> provenance;  ///< where it came from, as a GGUF keeps it under `slipway.*`

  bool operator==(const ModelDescription&) const = default;

  /// Errors   `fault` when sizes contradict each other or the architecture, saying which and what would fit.
  void check(const std::string& where, Fault fault) const;
};

/// A tensor by its canonical name, which inside Slipway is GGUF's: "blk.0.attn_q.weight".
struct NamedTensor {
  std::string name;
  std::vector<std::int64_t> shape;  ///< rows, columns of a matrix; the length of a vector

  std::int64_t cols() const { return shape.back(); }
  std::int64_t size() const {
    std::int64_t elements = 1;
    for (const std::int64_t length : shape) elements *= length;
    return elements;
  }
  std::int64_t rows() const { return size() / cols(); }
  bool operator==(const NamedTensor&) const = default;
};

/// Named f32 tensors, read on demand. Checkpoints, GGUFs, safetensors and live models implement it.
///
/// The rows of attn_q and attn_k stand in Hugging Face's order (RoPE turns halves) for every architecture.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual std::vector<NamedTensor> tensors() const = 0;
  /// Fills `out`, row after row. Errors: Fault::kStorage for a tensor that is not there; Fault::kBug when `out` has
  /// another size.
  virtual void read(const std::string& name, std::span<float> out) const = 0;

  /// The type in which the file stores a tensor: f32 unless the source overrides it, also for a tensor that is absent.
  virtual TensorType stored_as(const std::string&) const { return TensorType::kF32; }
  /// Its bytes as they are stored, its rows in the order of read(). Errors: as read(), and Fault::kBug by a source that
  /// stores everything as f32.
  virtual void read_stored(const std::string& name, std::span<std::byte> out) const;
};

}  // namespace slipway
