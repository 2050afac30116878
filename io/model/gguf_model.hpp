// A GGUF as a model: its metadata as a ModelSpec, its tensors as a TensorSource in Hugging Face's row order.
#pragma once

#include <filesystem>

#include "io/model/gguf.hpp"
#include "io/model/model_spec.hpp"
#include "io/model/tensor_layout.hpp"

namespace slipway {

/// llama.cpp's metadata for `model`, without the tokenizer, with exactly the value types that it requires.
/// `matrix_type` is the type of the matrices.
GgufMetadata gguf_metadata_of(const ModelSpec& model, TensorType matrix_type);

/// The inverse of gguf_metadata_of(). Errors: Fault::kStorage naming the missing or impossible key, and for what
/// Slipway cannot compute (other architectures, experts).
ModelSpec spec_of(const GgufFile& file);

/// An opened GGUF that Slipway or llama.cpp's converter wrote. Opening checks that each of its tensors belongs to the
/// architecture; the model checks that none is missing (src/model/model_tensors.hpp).
/// Errors   Fault::kStorage.
class GgufModel : public TensorSource {
 public:
  explicit GgufModel(const std::filesystem::path& path);

  const ModelSpec& spec() const { return spec_; }
  const GgufFile& file() const { return file_; }
  std::vector<TensorInfo> tensors() const override { return tensors_.canonical(); }
  void read(const std::string& name, std::span<float> out) const override;
  TensorType stored_type(const std::string& name) const override;
  void read_stored(const std::string& name, std::span<std::byte> out) const override;

 private:
  GgufFile file_;
  ModelSpec spec_;
  std::span<const std::byte> bytes_of_part(const FileTensors::Part& part) const;

  FileTensors tensors_;
};

}  // namespace slipway
