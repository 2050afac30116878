// Softmax cross-entropy over a chunk of rows, with the vocabulary split over tensor ranks.
#pragma once

#include "kernels/stream.hpp"
#include "src/core/tensor.hpp"

namespace slipway {

/// What one rank's share of the vocabulary says about a row; shares are joined by join_softmax.
struct SoftmaxShare {
  float max = 0;     ///< largest logit of the share
  float sum = 0;     ///< sum of exp(logit - max)
  float target = 0;  ///< the target's logit, or 0 where another rank holds it
};

/// Statistics of every row of a chunk of logits.
///
/// Shapes   logits [R, V] (this rank's columns); target [R], ids counted from this rank's first column, outside
///          [0, valid_cols) when another rank holds it or there is none; share [R].
/// Numbers  f32. Columns from `valid_cols` on are padding and take no part. valid_cols 0 gives max -inf, sum 0.
struct SoftmaxShares {
  Matrix<const float> logits_RV;
  const int* target_R = nullptr;
  int valid_cols = 0;
  SoftmaxShare* share_R = nullptr;
};

/// Turns logits into their gradient in place: `d[r,v] = weight[r] * (exp(logit[r,v] - lse[r]) - [v == target[r]])`.
///
/// Shapes   logits [R, V]; target, lse, weight [R]; padding columns become 0; rows with weight 0 become 0.
struct CrossEntropyGrad {
  Matrix<float> logits_RV;
  const int* target_R = nullptr;
  const float* lse_R = nullptr;
  const float* weight_R = nullptr;
  int valid_cols = 0;
};

/// Joins the shares of all tensor ranks, in rank order: returns {log-sum-exp, target's logit}; the loss is their
/// difference.
struct JoinedSoftmax {
  float lse = 0;
  float target = 0;
};
JoinedSoftmax join_softmax(const SoftmaxShare* shares, int count, int stride);

}  // namespace slipway
