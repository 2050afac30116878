// Streams weights into a file: reads, checks, permutes and encodes them, then compares them with the reopened file.
#pragma once

#include <array>
#include <future>
#include <span>
#include <string>
#include <vector>

#include "io/model/gguf.hpp"
#include "io/model/model_spec.hpp"
#include "io/model/tensor_layout.hpp"
#include "io/model/tensor_source.hpp"
#include "src/core/log.hpp"
#include "src/core/tensor.hpp"
#include "src/export/export.hpp"

namespace slipway {

/// Writes the tensors of a source to a file, one after another.
class StoredWeights {
 public:
  /// Errors   Fault::kBug when the tensors of `weights` are not those of `model`, by name and shape.
  StoredWeights(const ModelSpec& model, const TensorSource& weights, ModelFormat format);

  const std::vector<FileTensor>& tensors() const { return tensors_; }

  /// The type in which the source stores tensors()[index]; f32 where that has several parts and they differ.
  TensorType source_type(std::size_t index) const;
  /// The type in which the source stores most weights.
  TensorType main_source_type() const;

  /// Passes the stored bytes of tensors()[index] to `sink`, and adds the tensor to `report`. While a tensor is encoded,
  /// a background thread, the only one to use the source then, reads the next one.
  /// Errors   Fault::kNumeric for a weight that `type` cannot hold.
  void write(std::size_t index, TensorType type, const ByteSink& sink, ExportReport& report);

  /// Compares a reopened tensor, by hashes, with the bytes that write() wrote. Errors: Fault::kStorage when it differs.
  void verify(std::size_t index, std::span<const std::byte> reopened_bytes);

 private:
  struct WrittenChunk {  ///< a chunk of a tensor in the file
    std::size_t bytes = 0;
    std::string xxh3;
  };
  std::span<float> buffer_for(std::size_t index);  ///< of that tensor's values, reused by tensor index + 2
  void load(std::size_t index);
  std::span<const float> fetch(std::size_t index);  ///< the prefetched values, or else reads them now
  void report_progress(const TensorInfo& tensor);   ///< counts each tensor twice: written, then verified
  const ModelSpec& model_;
  const TensorSource& weights_;
  ModelFormat format_;
  std::vector<FileTensor> tensors_;
  std::vector<std::vector<WrittenChunk>> written_;  ///< the chunks of each tensor
  double elements_ = 0, elements_done_ = 0;
  log::Progress progress_{"export"};
  std::vector<float> part_values_;        ///< of a tensor that has several parts, or is transposed
  std::array<Buffer<float>, 2> buffers_;  ///< double buffer: one tensor is encoded while the next one is read
  std::size_t prefetched_index_ = 0;
  std::future<void> prefetch_;  ///< last, so that its destructor waits before the buffers are destroyed
};

/// The spec as a GGUF stores it, with its reals rounded to f32.
ModelSpec round_to_stored_precision(ModelSpec model);

/// Errors   Fault::kStorage naming the part in which the reopened tokenizer differs.
void compare_tokenizers(const std::string& source_name, const Tokenizer::Parts& expected,
                        const Tokenizer::Parts& actual);

}  // namespace slipway
