// Formulas of kernels/optimizer.hpp, for a block of a range.
#pragma once

#include <cmath>

#include "kernels/optimizer.hpp"
#include "kernels/team.hpp"

namespace slipway::body {

template <Team T>
SLIPWAY_HD void adamw(const T& team, const AdamW& op, std::size_t first, int count) {
  float* w = op.w.data() + first;
  const float* g = op.g.data() + first;
  float* m = op.m.data() + first;
  float* v = op.v.data() + first;
  const float b1 = op.beta1, b2 = op.beta2, grad_scale = op.grad_scale;
  const float lr = op.lr, eps = op.eps, decay = op.decay;
  const float inv_c1 = 1.0f / op.correction1, inv_c2 = 1.0f / op.correction2;

  const auto move = [=](int i) {
    const float grad = g[i] * grad_scale;
    m[i] = b1 * m[i] + (1.0f - b1) * grad;
    v[i] = b2 * v[i] + (1.0f - b2) * grad * grad;
    w[i] -= lr * (m[i] * inv_c1 / (sqrtf(v[i] * inv_c2) + eps) + decay * w[i]);
  };
  if (op.w_bf16.empty()) return team.each(count, move);
  Bf16* w_bf16 = op.w_bf16.data() + first;
  team.each(count, [=](int i) {
    move(i);
    w_bf16[i] = slipway::to_bf16(w[i]);
  });
}

}  // namespace slipway::body
