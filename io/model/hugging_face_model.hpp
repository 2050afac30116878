// A Hugging Face folder as a model: config.json as a ModelSpec, its safetensors as a TensorSource.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "io/model/safetensors_folder.hpp"
#include "io/model/tensor_layout.hpp"

namespace slipway {

/// An opened folder: `config.json`, and `model.safetensors` or its shards. Opening checks that each tensor belongs to
/// the architecture; the model checks that none is missing (src/model/model_tensors.hpp).
/// Errors   Fault::kStorage.
class HuggingFaceModel : public TensorSource {
 public:
  explicit HuggingFaceModel(const std::filesystem::path& folder);

  const ModelSpec& spec() const { return spec_; }
  const SafetensorsFolder& file() const { return file_; }
  std::vector<TensorInfo> tensors() const override { return tensors_.canonical(); }
  void read(const std::string& name, std::span<float> out) const override;
  TensorType stored_type(const std::string& name) const override;
  void read_stored(const std::string& name, std::span<std::byte> out) const override;

 private:
  void check_tied_head(const std::filesystem::path& folder) const;

  SafetensorsFolder file_;
  ModelSpec spec_;
  FileTensors tensors_;
};

}  // namespace slipway
