// The model's head and its loss: logits live one chunk of rows at a time and are never all stored.
#pragma once

#include <span>
#include <vector>

#include "src/model/block.hpp"

namespace slipway {

// 16 MiB of logits: large enough for products at full rate, small enough to stay near the caches.
inline constexpr int kChunkLogits = 1 << 22;

/// Rows with what they should have become.
struct LossRows {
  Matrix<const float> hidden_RD;  ///< after the last norm
  std::span<const int> target_R;
  std::span<const float> weight_R;  ///< rows of weight 0 take no part
  float* nats_R = nullptr;          ///< out: negative log-likelihood of every row, 0 where the weight is 0
};

/// Linear head and cross-entropy, with the vocabulary divided over tensor ranks.
///
/// Numbers  logits, log-sum-exp and their gradient are f32; a row's shares are joined in tensor-rank order.
/// Ranks    collective over the tensor group.
class LossHead {
 public:
  explicit LossHead(const TensorSplit& split) : split_(split) {}

  /// Fills nats. Cost: one product of R x D x V, in chunks of a few million logits.
  void loss(const Pass& pass, const Operand& head_VD, const LossRows& rows);
  /// Also the gradient of `scale * sum(weight * nats)`: into `dhidden` (replaced) and, added, into `dhead`.
  void loss_and_gradient(const Pass& pass, const Operand& head_VD, const LossRows& rows, float scale,
                         Matrix<float> dhidden_RD, Matrix<float> dhead_VD);
  /// Logits of every row over the whole vocabulary. Shapes: hidden [R, D], logits [R, V].
  void logits(const Pass& pass, const Operand& head_VD, Matrix<const float> hidden_RD, Matrix<float> logits_RV);

 private:
  int chunk_rows(int rows) const;
  /// Logits of one chunk, and each row's joined softmax.
  Matrix<float> chunk(const Pass& pass, const Operand& head_VD, const LossRows& rows, int first, int count);

  TensorSplit split_;
  Buffer<float> logits_;
  std::vector<int> target_;  // counted from this rank's first id
  std::vector<SoftmaxShare> shares_, all_shares_;
  std::vector<float> lse_, weight_;
};

}  // namespace slipway
