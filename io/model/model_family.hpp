// The families of models that Slipway knows: what files call them, and what sets them apart.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "io/model/model_spec.hpp"

namespace slipway {

/// What llama.cpp calls an architecture and transformers a model type.
struct ModelFamily {
  const char* hugging_face_class;
  ModelSpec defaults;  ///< its architecture, and the fields that sizes do not decide
};

const std::vector<ModelFamily>& model_families();
/// Null where there is none of that name.
const ModelFamily* find_family(std::string_view architecture);
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
