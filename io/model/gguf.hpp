// GGUF version 3, the model file of llama.cpp: validated when read, written in one pass (docs/formats/gguf.md).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/model/block_quant.hpp"
#include "io/model/gguf_metadata.hpp"
#include "io/model/tensor_source.hpp"
#include "src/core/file.hpp"

namespace slipway {

/// A tensor of a GGUF: its shape, type and location in the file.
struct GgufTensor {
  TensorInfo tensor;         ///< shape as rows, columns: the reverse of the file's order
  std::uint32_t type = 0;    ///< a ggml_type; it may be one that Slipway cannot decode
  std::uint64_t offset = 0;  ///< bytes from the start of the file
  std::uint64_t bytes = 0;
};

/// A GGUF, mapped for reading. Every field is checked against the file's size before memory is allocated for it; files
/// that llama.cpp refuses (gaps, duplicate names, incomplete blocks) are refused here too.
/// Errors   Fault::kStorage, one sentence naming the file and what is wrong in it.
class GgufFile {
 public:
  explicit GgufFile(const std::filesystem::path& path);

  const GgufMetadata& metadata() const { return metadata_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }  ///< in the order of the file
  const GgufTensor& at(std::string_view name) const;                   ///< Errors: Fault::kStorage when absent
  bool has(std::string_view name) const { return indices_.contains(name); }

  std::span<const std::byte> bytes(const GgufTensor& tensor) const;
  /// Errors   Fault::kStorage for a type that Slipway does not decode, naming it and what to do.
  void check_supported(const GgufTensor& tensor) const;
  /// The values as f32. Errors: as check_supported.
  void read(const GgufTensor& tensor, std::span<float> out) const;

 private:
  MappedFile file_;
  GgufMetadata metadata_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> indices_;
};

/// A tensor to write.
struct GgufTensorSpec {
  TensorInfo tensor;
  TensorType type = TensorType::kF32;
};

/// Receives the next bytes of a tensor.
using ByteSink = std::function<void(std::span<const std::byte>)>;

/// Writes a GGUF atomically: header, metadata, tensor records, then each tensor's bytes as `write_tensor(index, sink)`
/// passes them to the sink, each tensor at a multiple of 32 bytes.
/// Errors   Fault::kStorage when writing fails (no file is left behind); Fault::kBug for a name above 63 bytes, a row
///          of incomplete blocks, or a tensor with another number of bytes than its shape has.
void write_gguf(const std::filesystem::path& path, const GgufMetadata& metadata,
                std::span<const GgufTensorSpec> tensors,
                const std::function<void(std::size_t index, const ByteSink& sink)>& write_tensor);

/// The size of the file that write_gguf will write.
std::uint64_t gguf_file_bytes(const GgufMetadata& metadata, std::span<const GgufTensorSpec> tensors);

}  // namespace slipway
