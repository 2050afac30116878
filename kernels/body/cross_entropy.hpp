// Formulas of kernels/cross_entropy.hpp, for one row.
#pragma once

#include "kernels/body/exp.hpp"
#include "kernels/cross_entropy.hpp"

namespace slipway::body {

template <Team T>
SLIPWAY_HD SoftmaxShare softmax_share(const T& team, const SoftmaxShares& op, int r) {
  const float* logit_V = op.logits_RV.row(r);
  const int target = op.target_R[r];
  const float max = team.max(op.valid_cols, [=](int v) { return logit_V[v]; });
  const float sum = team.sum(op.valid_cols, [=](int v) { return exp(logit_V[v] - max); });
  return {.max = max, .sum = sum, .target = target >= 0 && target < op.valid_cols ? logit_V[target] : 0.0f};
}

template <Team T>
SLIPWAY_HD void cross_entropy_grad(const T& team, const CrossEntropyGrad& op, int r) {
  float* logit_V = op.logits_RV.row(r);
  const int V = op.logits_RV.cols, target = op.target_R[r];
  const float lse = op.lse_R[r], weight = op.weight_R[r];
  const int used = weight == 0.0f ? 0 : op.valid_cols;

  team.each(used, [=](int v) { logit_V[v] = weight * (exp(logit_V[v] - lse) - (v == target ? 1.0f : 0.0f)); });
  float* padding_V = logit_V + used;
  team.each(V - used, [=](int v) { padding_V[v] = 0.0f; });
}

}  // namespace slipway::body
