// config.json of a Hugging Face folder.
#pragma once

#include <filesystem>
#include <string>

#include "io/model/model_spec.hpp"
#include "src/core/dtype.hpp"

namespace slipway {

/// config.json as transformers reads it; `dtype` is how the weights are stored, `bos` and `eos` are ids or -1.
std::string hugging_face_config(const ModelSpec& model, DType dtype, int bos, int eos);

/// The inverse of hugging_face_config(), except name and provenance, which are in the safetensors header.
/// Errors   Fault::kStorage naming the key that is missing, impossible, or asks for arithmetic that Slipway lacks.
ModelSpec spec_of_config(const std::filesystem::path& config_json);

}  // namespace slipway
