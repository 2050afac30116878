// Softmax cross-entropy over a chunk of rows, with the vocabulary split over tensor ranks.
#pragma once

#include "kernels/operand.hpp"
#include "kernels/stream.hpp"

namespace slipway {

/// What one rank's share of the vocabulary says about a row; shares are joined by join_softmax.
struct SoftmaxShare {
  float max = 0;     ///< largest logit of the share
  float sum = 0;     ///< sum of exp(logit - max)
  float target = 0;  ///< the target's logit, or 0 where another rank holds it
};

/// Statistics of every row of a tile of logits, and on request what its gradient is made of: `exp[r,v] =
/// exp(logit[r,v] - max[r])`.
///
/// Shapes   logits, exp [R, V] (columns of this rank's); target [R], ids counted from the first of these columns,
///          outside [0, valid_cols) when they do not hold it; share [R].
/// Numbers  logits f32, exp f32 or bf16; max and sum from the unrounded numbers. Columns from `valid_cols` on are
///          padding: they take no part and their exp is 0. valid_cols 0 gives max -inf, sum 0.
/// Aliasing an f32 exp may be logits.
struct SoftmaxShares {
  Matrix<const float> logits_RV;
  const int* target_R = nullptr;
  int valid_cols = 0;
  SoftmaxShare* share_R = nullptr;
  Activation exp_RV;  ///< without memory: not wanted
};

/// Gradient of the loss, in place of the exponentials: `weight[r] * (softmax[r,v] - [v == target[r]])` with
/// `softmax[r,v] = exp[r,v] * exp(max[r] - lse[r])`; at the target from its unrounded logit, since that difference
/// cancels.
///
/// Shapes   exp [R, V]; target, share, lse, weight [R]; rows with weight 0 become 0.
struct CrossEntropyGrad {
  Activation exp_RV;
  const int* target_R = nullptr;
  const SoftmaxShare* share_R = nullptr;
  const float* lse_R = nullptr;
  const float* weight_R = nullptr;
  int valid_cols = 0;  ///< a target from here on is another rank's
};

/// Joins the shares of all tensor ranks, in rank order: returns {log-sum-exp, target's logit}; the loss is their
/// difference.
struct JoinedSoftmax {
  float lse = 0;
  float target = 0;
};
JoinedSoftmax join_softmax(const SoftmaxShare* shares, int count, int stride);

}  // namespace slipway
