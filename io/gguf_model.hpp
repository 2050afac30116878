// A GGUF as a model: llama.cpp's keys as a description, its tensors as a source in our row order.
#pragma once

#include <filesystem>

#include "io/gguf.hpp"
#include "io/model_file.hpp"

namespace slipway {

/// llama.cpp's metadata for `model`, without the tokenizer: exactly the types that it insists on.
/// `stored` is the type of the matrices.
GgufMetadata gguf_metadata_of(const ModelDescription& model, TensorType stored);

/// The inverse of gguf_metadata_of(). Errors: Fault::kStorage naming the missing or impossible key, and for what
/// Slipway cannot compute (other architectures, scaled RoPE, experts).
ModelDescription description_of(const GgufFile& file);

/// An opened GGUF that Slipway or llama.cpp's converter wrote; every tensor of the architecture is there and fits.
/// Errors   Fault::kStorage.
class GgufModel : public TensorSource {
 public:
  explicit GgufModel(const std::filesystem::path& path);

  const ModelDescription& description() const { return description_; }
  const GgufFile& file() const { return file_; }
  std::vector<NamedTensor> tensors() const override { return tensors_; }
  void read(const std::string& name, std::span<float> out) const override;
  TensorType stored_as(const std::string& name) const override;
  void read_stored(const std::string& name, std::span<std::byte> out) const override;

 private:
  GgufFile file_;
  ModelDescription description_;
  std::vector<NamedTensor> tensors_;
};

}  // namespace slipway
