// The model's head and its loss: logits live one chunk of rows at a time and are never all stored.
#pragma once

#include <span>
#include <vector>

#include "src/model/layers/block.hpp"

namespace slipway {

/// Size of the logits that are stored at once, independent of the batch: `rows` x vocabulary elements of the compute
/// type, and a tile of `rows` x `columns` in f32.
struct VocabTiles {
  int rows = 0;     ///< so many that reading and writing the head's gradient for each chunk is a tenth of its product
  int columns = 0;  ///< of a tile, in f32 until they are exponentials

  /// A CPU's tile stays in its caches; a GPU's is a product that fills the chip.
  static constexpr VocabTiles in(bool host) { return host ? VocabTiles{512, 1024} : VocabTiles{4096, 8192}; }
};

/// Inputs and outputs of the loss, one element or row per token, all in the backend's memory.
struct LossRows {
  ConstTensorView hidden_RD;  ///< after the last norm, in the compute type
  const int* target_R = nullptr;
  const float* weight_R = nullptr;         ///< rows of weight 0 take no part
  const float* scaled_weight_R = nullptr;  ///< weight times what the gradient is scaled by; for gradients only
  float* nats_R = nullptr;                 ///< out: negative log-likelihood of every row, 0 where the weight is 0
};

/// Linear head and cross-entropy, with the vocabulary sharded over tensor ranks.
///
/// Precision logits and log-sum-exp are f32, the logits' gradient of the compute type; the partial softmax statistics
/// of
///          a row are merged in the order of tiles and of tensor ranks.
/// Ranks    collective over the tensor group.
class LossHead {
 public:
  LossHead(const TensorParallelShard& split, VocabTiles tiles) : split_(split), tiles_(tiles) {}

  /// Fills nats. Cost: one product of R x D x V.
  void loss(const PassContext& pass, Parameters::Handle head_VD, const LossRows& rows);
  /// Also the gradient of `sum(scaled weight * nats)`: into own rows of `dhidden` (replaced) and, added, into the
  /// head's.
  void loss_and_gradient(const PassContext& pass, Parameters::Handle head_VD, const LossRows& rows,
                         Matrix<float> dhidden_RD);
  /// Logits of every row over the whole vocabulary. Shapes: hidden [R, D], logits [R, V].
  void logits(const PassContext& pass, Parameters::Handle head_VD, const ConstTensorView& hidden_RD,
              Matrix<float> logits_RV);

 private:
  int tiles() const { return (split_.vocabulary.padded_size + tiles_.columns - 1) / tiles_.columns; }
  /// One tile of the vocabulary: columns of this rank's, and how many of them are no padding.
  struct Tile {
    int first, cols, valid;
  };
  Tile tile(int index) const;
  /// The exponentials of one tile of the chunk. Tiles are stored one after another, since matmuls read contiguous tiles
  /// fastest.
  TensorView exp_tile(const Tile& tile, int count);
  /// Every row's log-sum-exp over all tiles and ranks, its nats, and with `keep` the exponentials.
  void softmax_statistics(const PassContext& pass, Parameters::Handle head_VD, const LossRows& rows, int first,
                          int count, bool keep);
  /// Memory for so many rows; what is there already stays.
  void reserve_buffers(std::size_t rows, DType compute, bool keep, bool in_place, MemorySpace& space);

  TensorParallelShard split_;
  VocabTiles tiles_;
  Buffer<float> logits_;     // of one tile
  TensorBuffer exp_buffer_;  // of a chunk's rows: exponentials, then gradients
  Buffer<SoftmaxPartial> tile_partials_, row_partials_, rank_partials_;  // [tiles, rows], [rows], [ranks, rows]
  Buffer<float> lse_;
};

}  // namespace slipway
