// Names and layouts of a model's tensors in files.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/model/model_spec.hpp"
#include "io/model/tensor_source.hpp"

namespace slipway {

/// Model file formats that other programs read.
enum class ModelFormat { kGguf, kHuggingFace };

/// A tensor as a file stores it: one or more canonical tensors, concatenated by rows, possibly transposed.
struct FileTensor {
  TensorInfo stored;              ///< its name and shape in the file
  std::vector<TensorInfo> parts;  ///< rows of it (columns where it is transposed); one part for most tensors
  bool transposed = false;        ///< matrices of GPT-2's folders are [in, out]
};

/// Maps canonical `tensors` to the tensors that a file of `format` stores, in the same order.
/// Errors   Fault::kBug for a name that the family does not have.
std::vector<FileTensor> to_file_tensors(const ModelSpec& model, ModelFormat format,
                                        std::span<const TensorInfo> tensors);

/// Maps a tensor of a file to the canonical tensors that it contains. `parts` is empty for a tensor without weights: a
/// buffer that some programs store, or RoPE's frequency factors, which follow from the spec.
/// Errors   Fault::kStorage for a name that the family does not have, and for a shape that its parts do not add up to.
FileTensor to_canonical_tensors(const ModelSpec& model, ModelFormat format, const TensorInfo& stored);

/// Copies part `index` of `tensor`, of which `stored` has all elements, to `out`.
/// Errors   Fault::kBug when sizes disagree.
void extract_part(const FileTensor& tensor, std::size_t index, std::span<const float> stored, std::span<float> out);
/// The inverse: copies `part` to its elements of `stored`.
void insert_part(const FileTensor& tensor, std::size_t index, std::span<const float> part, std::span<float> stored);

/// The tensors of an opened file, by their canonical names.
class FileTensors {
 public:
  /// A canonical tensor: part `index` of a tensor of the file.
  struct Part {
    const FileTensor& tensor;
    std::size_t index;

    const TensorInfo& info() const { return tensor.parts[index]; }
    bool is_entire_tensor() const { return tensor.parts.size() == 1 && !tensor.transposed; }
  };

  explicit FileTensors(std::string file_name) : file_name_(std::move(file_name)) {}  ///< the file, in errors

  /// Adds a tensor of the file. Returns false when the model does not use it, such as the duplicate of a tied head.
  /// Errors   those of to_canonical_tensors(), and two tensors for one part of the model.
  bool add(const ModelSpec& model, ModelFormat format, const TensorInfo& stored);

  const std::vector<TensorInfo>& canonical() const { return canonical_; }  ///< in the order of the file
  std::optional<Part> find(const std::string& name) const;
  Part at(const std::string& name) const;  ///< Errors: Fault::kStorage when absent

 private:
  struct Location {
    std::size_t tensor = 0, part = 0;
  };
  std::string file_name_;
  std::vector<FileTensor> tensors_;
  std::vector<TensorInfo> canonical_;
  std::map<std::string, Location> locations_;
};

/// The number of heads in tensor `name` where a GGUF of `model` stores its rows permuted, else 0. llama.cpp applies
/// RoPE to adjacent rows (2j, 2j + 1) of a llama's q and k; others to rows j and j + head width / 2.
int permuted_heads(const ModelSpec& model, const std::string& name);

/// Reorders rows inside each head from half order to interleaved order. Shapes: values [heads * head width, cols].
void permute_rope(std::span<float> values, int heads, std::int64_t cols);
/// The inverse.
void unpermute_rope(std::span<float> values, int heads, std::int64_t cols);
void unpermute_rope(std::span<std::byte> values, int heads, std::int64_t cols);  ///< of stored rows, `cols` bytes long

}  // namespace slipway
