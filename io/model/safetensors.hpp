// safetensors: a JSON header and the tensors behind it (docs/formats/safetensors.md).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "io/model/gguf.hpp"
#include "io/model/tensor_source.hpp"
#include "src/core/dtype.hpp"
#include "src/core/file.hpp"

namespace slipway {

/// A tensor in a safetensors file.
struct SafeTensor {
  TensorInfo tensor;
  DType dtype = DType::kF32;
  std::string other_dtype;   ///< "BOOL" or "U8", of which only the bytes can be read; empty: `dtype`
  std::uint64_t offset = 0;  ///< bytes from the start of the file; not used by the writer
};

/// The TensorType of a DType.
TensorType tensor_type_of(DType dtype);

/// A safetensors file, mapped for reading.
/// Errors   Fault::kStorage, one sentence naming the file and what is wrong in it: a header that is no JSON, an unknown
///          type, a shape that disagrees with its bytes, gaps, overlaps, or a truncated file.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::vector<SafeTensor>& tensors() const { return tensors_; }  ///< in the order of their bytes
  const SafeTensor& at(const std::string& name) const;
  bool has(const std::string& name) const { return indices_.contains(name); }
  std::span<const std::byte> bytes(const SafeTensor& tensor) const;
  void read(const SafeTensor& tensor, std::span<float> out) const;  ///< as f32

 private:
  std::string source_name_;
  MappedFile file_;
  std::map<std::string, std::string> metadata_;
  std::vector<SafeTensor> tensors_;
  std::map<std::string, std::size_t> indices_;
};

/// Writes atomically: the header padded to a multiple of 8 bytes, then each tensor's bytes as `write_tensor(index,
/// sink)` passes them to the sink. Errors: Fault::kStorage when writing fails; Fault::kBug if bytes and shape
/// disagree.
void write_safetensors(const std::filesystem::path& path, const std::map<std::string, std::string>& metadata,
                       std::span<const SafeTensor> tensors,
                       const std::function<void(std::size_t index, const ByteSink& sink)>& write_tensor);

}  // namespace slipway
