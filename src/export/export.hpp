// Exports a model to files of other programs; each file is reopened and compared before it gets its final name.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "io/model/block_quant.hpp"
#include "io/model/model_spec.hpp"
#include "io/model/tensor_source.hpp"
#include "src/data/tokenizer.hpp"

namespace slipway {

/// The result of an export and of its comparison with the model.
struct ExportReport {
  std::filesystem::path path;
  TensorType type = TensorType::kF32;      ///< of most weights
  std::map<TensorType, int> tensor_types;  ///< the number of tensors of each type
  std::uint64_t bytes = 0;                 ///< of the file or of all files in the folder
  int tensors = 0;
  std::int64_t parameters = 0;
  std::vector<std::string> fallbacks;     ///< matrices stored as f16: their rows are no multiple of the block size
  double largest_difference = 0.0;        ///< between a stored weight and the model's
  std::string largest_difference_tensor;  ///< the tensor with that weight; empty when all are equal
  double write_s = 0;  ///< reading, encoding, writing and fsync of the weights, without any comparison
};

/// Checks an export under its temporary name and throws when it must not be published.
using ExportCheck = std::function<void(const std::filesystem::path& temporary_path)>;

/// The type of a tensor in a GGUF whose matrices are stored as `requested`: vectors and learned positions are f32,
/// matrices whose rows are no multiple of the block size f16.
TensorType stored_type(const TensorInfo& tensor, TensorType requested);

/// "bf16 (15) and f32 (6)", each with its number of tensors; only "f32" where all are of one type.
std::string describe_types(const ExportReport& report);

/// Writes a GGUF for llama.cpp, then reopens it and compares spec, tokenizer and every stored byte.
/// Without a `type`, each matrix keeps the type in which `weights` stores it.
///
/// Errors   Fault::kConfig for a model that GGUF does not support (export_limitation()), such as one with a character
///          tokenizer; Fault::kNumeric for weights that are not finite or too large for the type, naming the tensor and
///          the element; Fault::kStorage when writing fails or the reopened file differs. In every case an older file
///          at `path` is left unchanged.
/// Cost     memory for two tensors; reads the weights once.
ExportReport export_gguf(const ModelSpec& model, const Tokenizer& tokenizer, const TensorSource& weights,
                         std::optional<TensorType> type, const std::filesystem::path& path,
                         const ExportCheck& check = {});

/// Writes a folder that transformers loads: model.safetensors, config.json, generation_config.json, tokenizer.json,
/// tokenizer_config.json, README.md. It gets its final name only after it was reopened and compared. Without a `type`,
/// each tensor keeps the type in which `weights` stores it: the tensors of a folder that was read have the same bytes.
///
/// Errors   As export_gguf; also Fault::kConfig for a folder that is not empty, for q8_0 and q4_0, and for a model that
///          transformers does not support.
ExportReport export_hugging_face(const ModelSpec& model, const Tokenizer& tokenizer, const TensorSource& weights,
                                 std::optional<TensorType> type, const std::filesystem::path& folder,
                                 const ExportCheck& check = {});

}  // namespace slipway
