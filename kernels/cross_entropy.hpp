// Softmax cross-entropy over a chunk of rows, with the vocabulary split over tensor ranks.
#pragma once

#include "kernels/backend/stream.hpp"
#include "kernels/tensor_view.hpp"

namespace slipway {

/// Partial softmax statistics of a row over a part of the vocabulary (a tile, or a rank's shard); merged by
/// MergePartials.
struct SoftmaxPartial {
  float max = 0;     ///< largest logit of the partial
  float sum = 0;     ///< sum of exp(logit - max)
  float target = 0;  ///< the target's logit, or 0 where another rank holds it
};

/// Softmax statistics of every row of a tile of logits and, on request, the exponentials that its gradient needs:
/// `exp[r,v] = exp(logit[r,v] - max[r])`.
///
/// Shapes   logits, exp [R, V] (this rank's columns); target [R], token ids, column 0 being `vocab_start`; partial [R].
/// Precision logits f32, exp f32 or bf16; max and sum from the unrounded values. Columns from `valid_cols` on are
///          padding: they are ignored and their exp is 0. valid_cols 0 gives max -inf, sum 0.
/// Aliasing an f32 exp may be logits.
struct SoftmaxPartials {
  Matrix<const float> logits_RV;
  const int* target_R = nullptr;
  int valid_cols = 0;
  SoftmaxPartial* partial_R = nullptr;
  TensorView exp_RV;  ///< null: not written
  int vocab_start = 0;
};

/// Merges the partial statistics of every row, in order, in f64, as online softmax does. The loss is `lse - target`.
///
/// Shapes   partials [count, R], `stride` elements from one to the next (at least R); merged, lse, weight, loss [R].
/// Precision lse is the log of the sum of exp(logit); a partial without columns (sum 0) is ignored, and lse is -inf
///          where no partial has columns. loss is 0 where the weight is 0.
struct MergePartials {
  const SoftmaxPartial* partials = nullptr;
  int count = 0;
  int stride = 0;
  int rows = 0;
  SoftmaxPartial* merged_R = nullptr;  ///< one partial with max = lse and sum = 1 (or 0 without columns); null: none
  float* lse_R = nullptr;              ///< null: not written
  const float* weight_R = nullptr;     ///< read for loss
  float* loss_R = nullptr;             ///< loss of each row; null: not written
};

/// `*result = sum over r of weight[r] * x[r]`, in f64, in an order that depends on R alone.
struct WeightedSum {
  const float* x_R = nullptr;
  const float* weight_R = nullptr;
  int count = 0;
  double* result = nullptr;
};

/// Gradient of the loss, written over the exponentials: `weight[r] * (softmax[r,v] - [v == target[r]])` with
/// `softmax[r,v] = exp[r,v] * exp(max[r] - lse[r])`. At the target it is computed from the unrounded logit, since the
/// difference cancels there.
///
/// Shapes   exp [R, V]; target, as in SoftmaxPartials, partial, lse, weight [R]; rows with weight 0 become 0.
struct CrossEntropyGrad {
  TensorView exp_RV;
  const int* target_R = nullptr;
  const SoftmaxPartial* partial_R = nullptr;
  const float* lse_R = nullptr;
  const float* weight_R = nullptr;
  int valid_cols = 0;  ///< a target beyond these columns is in another rank's shard
  int vocab_start = 0;
};

}  // namespace slipway
