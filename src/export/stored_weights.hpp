// Weights on their way into a file: read, checked, reordered, encoded; and compared with what the file gives back.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "io/gguf.hpp"
#include "io/model_file.hpp"
#include "src/core/log.hpp"
#include "src/export/export.hpp"

namespace slipway {

/// Feeds one tensor after another from a source to a file.
class StoredWeights {
 public:
  /// `pairs_for` tells whether q and k rows of a llama are to be interleaved (GGUF) or left (Hugging Face).
  enum class Rows { kHalves, kNeighbours };

  /// Errors   Fault::kBug when `weights` lacks a tensor of `model`, has one more, or one of another shape.
  StoredWeights(const ModelDescription& model, const TensorSource& weights, Rows rows);

  const std::vector<NamedTensor>& tensors() const { return tensors_; }

  /// Hands the stored bytes of a tensor to `sink`. Errors: Fault::kNumeric for a weight that `type` cannot hold.
  void write(const NamedTensor& tensor, TensorType type, const ByteSink& sink) const;

  /// Compares a reopened tensor with what should be there, and notes the largest difference of a weight.
  /// Errors   Fault::kStorage when a byte differs.
  void verify(const NamedTensor& tensor, TensorType type, std::span<const std::byte> found, ExportReport& report) const;

 private:
  std::vector<float> load(const NamedTensor& tensor) const;
  const ModelDescription& model_;
  const TensorSource& weights_;
  Rows rows_;
  void done_with(const NamedTensor& tensor) const;  ///< tells the progress; each tensor is written, then verified
  std::vector<NamedTensor> tensors_;
  double elements_ = 0;
  mutable double elements_done_ = 0;
  mutable log::Progress progress_{"export"};
};

/// The description as files keep it, with reals of 32 bits.
ModelDescription as_stored(ModelDescription model);

/// Errors   Fault::kStorage naming what the reopened tokenizer has otherwise.
void compare_tokenizers(const std::string& called, const Tokenizer::Parts& given, const Tokenizer::Parts& found);

}  // namespace slipway
