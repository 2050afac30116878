// Names of a model's tensors and configuration keys in files, by family.
#pragma once

#include <span>
#include <string_view>

namespace slipway {

/// The names of a tensor. Canonical names are GGUF's, except for tensors that a GGUF fuses into one.
struct TensorNames {
  std::string_view canonical, hugging_face;
  bool transposed = false;  ///< in a Hugging Face folder
};

/// A key of config.json that has another name in a family; `family_name` empty: the family has no such key.
struct KeyName {
  std::string_view default_name, family_name;
};

/// The names of a family: tensors outside of the layers, tensors of a layer (after "blk.N."), and keys.
struct FileNames {
  std::span<const TensorNames> model_tensors, layer_tensors;
  std::string_view hugging_face_layer;   ///< prefix before a layer's number
  std::string_view hugging_face_prefix;  ///< of all tensors but the head; some folders omit it. Empty: none
  std::span<const std::string_view> ignored_buffers;  ///< buffers that some programs store; ignored
  std::span<const KeyName> config_keys;               ///< those that differ from SpecField::hugging_face

  /// The family's name for a key of config.json; empty: it has no such key.
  std::string_view config_key(std::string_view default_name) const {
    for (const KeyName& key : config_keys)
      if (key.default_name == default_name) return key.family_name;
    return default_name;
  }
};

extern const FileNames kLlamaFileNames;  ///< of llama, qwen2 and qwen3; a part that a family lacks is unused
extern const FileNames kGpt2FileNames;

}  // namespace slipway
