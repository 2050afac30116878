// Formulas of kernels/cross_entropy.hpp, for one row.
#pragma once

#include <cmath>
#include <type_traits>

#include "kernels/body/exp.hpp"
#include "kernels/cross_entropy.hpp"

namespace slipway::body {

/// E: the type of the exponentials, or void where they are not written.
template <class E, Team T>
SLIPWAY_HD SoftmaxPartial softmax_partial(const T& team, const SoftmaxPartials& op, int r) {
  const float* logit_V = op.logits_RV.row(r);
  const int target = op.target_R[r] - op.vocab_start, valid_cols = op.valid_cols;
  const float target_logit = target >= 0 && target < valid_cols ? logit_V[target] : 0.0f;
  const float max = team.max(
      valid_cols, [](float logit) { return logit; }, logit_V);
  float sum = 0.0f;
  if constexpr (std::is_void_v<E>) {
    sum = team.sum(
        valid_cols, [=](float logit) { return exp(logit - max); }, logit_V);
  } else {
    E* exp_V = op.exp_RV.row<E>(r);
    sum = team.sum(
        valid_cols, [=](float logit, float& e) { return e = exp(logit - max); }, logit_V, write_only(exp_V));
    team.for_each(
        op.logits_RV.cols - valid_cols, [](float& e) { e = 0.0f; }, write_only(exp_V + valid_cols));
  }
  return {.max = max, .sum = sum, .target = target_logit};
}

/// Serial, since a row has few partials.
SLIPWAY_HD inline void merge_partials(const MergePartials& op, int r) {
  const auto partial = [&](int i) { return op.partials[std::int64_t{i} * op.stride + r]; };
  double max = -__builtin_inf();
  for (int i = 0; i < op.count; ++i) max = std::fmax(max, static_cast<double>(partial(i).max));
  double sum = 0, target = 0;
  for (int i = 0; i < op.count; ++i) {
    const SoftmaxPartial one = partial(i);
    if (one.sum == 0.0f) continue;  // it has no columns; NaN propagates
    sum += one.sum * std::exp(one.max - max);
    target += one.target;
  }
  const auto lse = static_cast<float>(max + std::log(sum)), logit = static_cast<float>(target);
  if (op.merged_R != nullptr)
    op.merged_R[r] = {.max = lse, .sum = lse == -__builtin_inff() ? 0.0f : 1.0f, .target = logit};
  if (op.lse_R != nullptr) op.lse_R[r] = lse;
  if (op.loss_R != nullptr) op.loss_R[r] = op.weight_R[r] == 0.0f ? 0.0f : lse - logit;
}

template <class E, Team T>
SLIPWAY_HD void cross_entropy_grad(const T& team, const CrossEntropyGrad& op, int r) {
  E* dlogit_V = op.exp_RV.row<E>(r);
  const int V = op.exp_RV.cols, id = op.target_R[r] - op.vocab_start, target = id < op.valid_cols ? id : -1;
  const float weight = op.weight_R[r], lse = op.lse_R[r];
  if (weight == 0.0f) {
    return team.for_each(
        V, [](float& dlogit) { dlogit = 0.0f; }, write_only(dlogit_V));
  }
  const float factor = weight * exp(op.partial_R[r].max - lse);
  const float target_grad = weight * (exp(op.partial_R[r].target - lse) - 1.0f);
  team.for_each(
      V, [=](int v, float& dlogit) { dlogit = v == target ? target_grad : factor * dlogit; }, dlogit_V);
}

}  // namespace slipway::body
