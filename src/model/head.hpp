// The model's head and its loss. Only the logits of one chunk of rows are stored at a time.
#pragma once

#include <span>
#include <vector>

#include "src/model/layers/block.hpp"

namespace slipway {

/// Size of the logits that are stored at once, independent of the batch: `rows` x vocabulary elements of the compute
/// type, and a tile of `rows` x `columns` in f32.
struct VocabTiles {
  int rows = 0;     ///< enough that accumulating the head's gradient per chunk costs a tenth of the chunk's matmul
  int columns = 0;  ///< of a tile, in f32 until the exponentials are taken

  /// On a CPU a tile fits into the caches; on a GPU its matmul fills the device.
  static constexpr VocabTiles for_device(bool is_host) {
    return is_host ? VocabTiles{512, 1024} : VocabTiles{4096, 8192};
  }
};

/// Inputs and outputs of the loss, one element or row per token, all in the backend's memory.
struct LossRows {
  ConstTensorView hidden_RD;  ///< after the last norm, in the compute type
  const int* target_R = nullptr;
  const float* weight_R = nullptr;         ///< rows of weight 0 are ignored
  const float* scaled_weight_R = nullptr;  ///< weight * loss scale; for gradients only
  float* loss_R = nullptr;                 ///< out: negative log-likelihood of every row, 0 where the weight is 0
};

/// Linear head and cross-entropy, with the vocabulary sharded over tensor ranks.
///
/// Precision logits and log-sum-exp are f32, the logits' gradient is in the compute type; the partial softmax
///          statistics of a row are merged in the order of tiles and of tensor ranks.
/// Ranks    collective over the tensor group.
class LossHead {
 public:
  LossHead(const TensorParallelShard& shard, VocabTiles tiles) : shard_(shard), tiles_(tiles) {}

  /// Fills nats. Cost: one matmul of R x D x V.
  void loss(const PassContext& pass, Parameters::Handle head_VD, const LossRows& rows);
  /// Also computes the gradient of `sum(scaled weight * nats)`: overwrites this rank's rows of `dhidden`, and adds to
  /// the gradient of the head's weight.
  void loss_and_gradient(const PassContext& pass, Parameters::Handle head_VD, const LossRows& rows,
                         Matrix<float> dhidden_RD);
  /// Logits of every row over the whole vocabulary. Shapes: hidden [R, D], logits [R, V].
  void logits(const PassContext& pass, Parameters::Handle head_VD, const ConstTensorView& hidden_RD,
              Matrix<float> logits_RV);

 private:
  int tiles() const { return (shard_.vocabulary.padded_size + tiles_.columns - 1) / tiles_.columns; }
  /// One tile of this rank's part of the vocabulary, and how many of its columns are not padding.
  struct Tile {
    int first, cols, valid;
  };
  Tile tile(int index) const;
  /// The exponentials of one tile of the chunk. Each tile is contiguous, which matmuls read fastest.
  TensorView exp_tile(const Tile& tile, int count);
  /// Computes every row's log-sum-exp over all tiles and ranks, its nats, and with `keep_exp` saves the exponentials.
  void softmax_statistics(const PassContext& pass, Parameters::Handle head_VD, const LossRows& rows, int first,
                          int count, bool keep_exp);
  /// Allocates memory for `rows` rows; buffers that are large enough stay.
  void reserve_buffers(std::size_t rows, DType compute_dtype, bool keep_exp, bool in_place, MemorySpace& space);

  TensorParallelShard shard_;
  VocabTiles tiles_;
  Buffer<float> logits_;     // of one tile
  TensorBuffer exp_buffer_;  // of the rows of a chunk: exponentials, then the logits' gradient
  Buffer<SoftmaxPartial> tile_partials_, row_partials_, rank_partials_;  // [tiles, rows], [rows], [ranks, rows]
  Buffer<float> lse_;
};

}  // namespace slipway
