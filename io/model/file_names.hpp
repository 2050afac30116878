// What files call the tensors and the keys of a model, family by family.
#pragma once

#include <span>
#include <string_view>

namespace slipway {

/// The names of a tensor. Canonical names are GGUF's, but for tensors that a GGUF keeps as one.
struct TensorNames {
  std::string_view canonical, hugging_face;
  bool transposed = false;  ///< in a Hugging Face folder
};

/// A key of config.json that a family calls otherwise; empty: it has no such key.
struct KeyName {
  std::string_view usual, own;
};

/// The names of a family: of tensors outside of the layers, of those behind "blk.N.", and of keys.
struct FileNames {
  std::span<const TensorNames> outside, inside;
  std::string_view hugging_face_layer;         ///< what stands before a layer's number
  std::string_view hugging_face_prefix;        ///< of all but the head; some folders leave it out. Empty: none
  std::span<const std::string_view> computed;  ///< in a layer: stored by some programs, though it follows from the spec
  std::span<const KeyName> config_keys;        ///< those that differ from SpecField::hugging_face

  /// How a key of config.json is called; empty: there is none.
  std::string_view config_key(std::string_view usual) const {
    for (const KeyName& key : config_keys)
      if (key.usual == usual) return key.own;
    return usual;
  }
};

extern const FileNames kLlamaFileNames;  ///< of llama, qwen2 and qwen3: a family that lacks a part lacks its tensor
extern const FileNames kGpt2FileNames;

}  // namespace slipway
