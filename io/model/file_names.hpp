// Names of a model's tensors and configuration keys in files, by family.
#pragma once

#include <span>
#include <string_view>

namespace slipway {

/// The names of a tensor. Canonical names are GGUF's, except for tensors that a GGUF fuses into one.
struct TensorNames {
  std::string_view canonical, hugging_face;
  bool transposed = false;  ///< a Hugging Face folder stores the transposed matrix
};

/// A key of config.json that has another name in a family, as in transformers' attribute_map. An empty `family_key`:
/// the family has no such key.
struct AttributeMapping {
  std::string_view standard_key, family_key;
};

/// The names of a family's tensors, outside of the layers and in a layer (after "blk.N."), and of its keys.
struct FileNames {
  std::span<const TensorNames> non_layer_tensors, layer_tensors;
  std::string_view hugging_face_layer_prefix;  ///< before a layer's number
  std::string_view base_model_prefix;          ///< of all tensors but the head; some folders omit it. Empty: none
  std::span<const std::string_view> ignored_buffers;  ///< which some programs store
  std::span<const AttributeMapping> attribute_map;    ///< keys that differ from SpecField::hugging_face

  /// The family's name for a key of config.json; empty when it has no such key.
  std::string_view config_key(std::string_view standard_key) const {
    for (const AttributeMapping& key : attribute_map)
      if (key.standard_key == standard_key) return key.family_key;
    return standard_key;
  }
};

extern const FileNames kLlamaFileNames;  ///< of llama, qwen2 and qwen3; names of tensors that a family lacks are unused
extern const FileNames kGpt2FileNames;

}  // namespace slipway
