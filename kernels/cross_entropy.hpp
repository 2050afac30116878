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

/// Statistics of every row of a tile of logits, and on request what its gradient is made of: `exp[r,v] =
/// exp(logit[r,v] - max[r])`.
///
/// Shapes   logits, exp [R, V] (columns of this rank's); target [R], ids of which column 0 has `first_id`; partial [R].
/// Precision logits f32, exp f32 or bf16; max and sum from the unrounded numbers. Columns from `valid_cols` on are
///          padding: they take no part and their exp is 0. valid_cols 0 gives max -inf, sum 0.
/// Aliasing an f32 exp may be logits.
struct SoftmaxPartials {
  Matrix<const float> logits_RV;
  const int* target_R = nullptr;
  int valid_cols = 0;
  SoftmaxPartial* partial_R = nullptr;
  TensorView exp_RV;  ///< without memory: not wanted
  int first_id = 0;
};

/// Merges the partial statistics of every row, in order, in f64, as online softmax does. The loss is `lse - target`.
///
/// Shapes   partials [count, R], `stride` from one to the next (at least R); joined, lse, weight, nats [R].
/// Precision lse is the log of the sum of exp(logit); a partial without a column (sum 0) takes no part, and where none
/// has
///          one it is -inf. nats is 0 where the weight is 0.
struct MergePartials {
  const SoftmaxPartial* partials = nullptr;
  int count = 0;
  int stride = 0;
  int rows = 0;
  SoftmaxPartial* merged_R = nullptr;  ///< as one partial: lse as its maximum, 1 (or 0) as its sum; null: not wanted
  float* lse_R = nullptr;              ///< null: not wanted
  const float* weight_R = nullptr;     ///< for nats
  float* nats_R = nullptr;             ///< null: not wanted
};

/// `*result = sum over r of weight[r] * x[r]`, in f64, in an order that depends on R alone.
struct WeightedSum {
  const float* x_R = nullptr;
  const float* weight_R = nullptr;
  int count = 0;
  double* result = nullptr;
};

/// Gradient of the loss, in place of the exponentials: `weight[r] * (softmax[r,v] - [v == target[r]])` with
/// `softmax[r,v] = exp[r,v] * exp(max[r] - lse[r])`; at the target from its unrounded logit, since that difference
/// cancels.
///
/// Shapes   exp [R, V]; target, as in SoftmaxPartials, partial, lse, weight [R]; rows with weight 0 become 0.
struct CrossEntropyGrad {
  TensorView exp_RV;
  const int* target_R = nullptr;
  const SoftmaxPartial* partial_R = nullptr;
  const float* lse_R = nullptr;
  const float* weight_R = nullptr;
  int valid_cols = 0;  ///< a target from here on is another rank's
  int first_id = 0;
};

}  // namespace slipway
