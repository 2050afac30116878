// Formulas of kernels/cross_entropy.hpp, for one row.
#pragma once

#include <type_traits>

#include "kernels/body/exp.hpp"
#include "kernels/cross_entropy.hpp"

namespace slipway::body {

/// E: the type of the exponentials, or void where they are not wanted.
template <class E, Team T>
SLIPWAY_HD SoftmaxShare softmax_share(const T& team, const SoftmaxShares& op, int r) {
  const float* logit_V = op.logits_RV.row(r);
  const int target = op.target_R[r], valid = op.valid_cols;
  const float target_logit = target >= 0 && target < valid ? logit_V[target] : 0.0f;
  const float max = team.max(valid, [=](int v) { return logit_V[v]; });
  float sum = 0.0f;
  if constexpr (std::is_void_v<E>) {
    sum = team.sum(valid, [=](int v) { return exp(logit_V[v] - max); });
  } else {
    E* exp_V = op.exp_RV.row<E>(r);
    sum = team.sum(valid, [=](int v) {
      const float e = exp(logit_V[v] - max);
      exp_V[v] = narrowed<E>(e);
      return e;
    });
    team.each(op.logits_RV.cols - valid, [=](int v) { exp_V[valid + v] = narrowed<E>(0.0f); });
  }
  return {.max = max, .sum = sum, .target = target_logit};
}

template <class E, Team T>
SLIPWAY_HD void cross_entropy_grad(const T& team, const CrossEntropyGrad& op, int r) {
  E* d_V = op.exp_RV.row<E>(r);
  const int V = op.exp_RV.cols, target = op.target_R[r] < op.valid_cols ? op.target_R[r] : -1;
  const float weight = op.weight_R[r], lse = op.lse_R[r];
  if (weight == 0.0f) {
    team.each(V, [=](int v) { d_V[v] = narrowed<E>(0.0f); });
    return;
  }
  const float factor = weight * exp(op.share_R[r].max - lse);
  const float at_target = weight * (exp(op.share_R[r].target - lse) - 1.0f);
  team.each(V, [=](int v) { d_V[v] = narrowed<E>(v == target ? at_target : factor * to_f32(d_V[v])); });
}

}  // namespace slipway::body
