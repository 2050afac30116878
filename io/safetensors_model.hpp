// A Hugging Face folder as a model: config.json as a description, model.safetensors as a source.
#pragma once

#include <filesystem>
#include <string>

#include "io/safetensors.hpp"

namespace slipway {

/// config.json as transformers reads it; `dtype` is how the weights are stored, `bos` and `eos` are ids or -1.
std::string hugging_face_config(const ModelDescription& model, DType dtype, int bos, int eos);

/// The inverse of hugging_face_config(), except name and provenance, which are in the safetensors header.
/// Errors   Fault::kStorage naming the key that is missing, impossible, or asks for arithmetic that Slipway lacks.
ModelDescription description_of_config(const std::filesystem::path& config_json);

/// An opened folder: `config.json` and `model.safetensors`, every tensor of the architecture there and fitting.
/// Errors   Fault::kStorage.
class HuggingFaceModel : public TensorSource {
 public:
  explicit HuggingFaceModel(const std::filesystem::path& folder);

  const ModelDescription& description() const { return description_; }
  const SafetensorsFile& file() const { return file_; }
  std::vector<NamedTensor> tensors() const override { return tensors_; }
  void read(const std::string& name, std::span<float> out) const override;

 private:
  SafetensorsFile file_;
  ModelDescription description_;
  std::vector<NamedTensor> tensors_;
};

}  // namespace slipway
