// Formulas of kernels/optimizer.hpp, for a block of a range.
#pragma once

#include <cmath>

#include "kernels/optimizer.hpp"
#include "kernels/team.hpp"

namespace slipway::body {

SLIPWAY_HD inline float factor_or_one(const float* factor) { return factor == nullptr ? 1.0f : *factor; }

template <Team T>
SLIPWAY_HD void adamw(const T& team, const AdamW& op, std::size_t first, int count) {
  float* w = op.w.data() + first;
  const float* g = op.g.data() + first;
  float* m = op.m.data() + first;
  float* v = op.v.data() + first;
  const float b1 = op.beta1, b2 = op.beta2, grad_scale = factor_or_one(op.grad_scale);
  if (std::isnan(grad_scale)) return;
  const float lr = op.lr, eps = op.eps, weight_decay = op.weight_decay;
  const float inv_c1 = 1.0f / op.bias_correction1, inv_c2 = 1.0f / op.bias_correction2;

  const auto update = [=](float gradient, float& m_i, float& v_i, float& w_i) {
    const float grad = gradient * grad_scale;
    m_i = b1 * m_i + (1.0f - b1) * grad;
    v_i = b2 * v_i + (1.0f - b2) * grad * grad;
    w_i -= lr * (m_i * inv_c1 / (sqrtf(v_i * inv_c2) + eps) + weight_decay * w_i);
  };
  if (op.w_bf16.empty()) return team.for_each(count, update, g, m, v, w);
  const auto update_and_copy = [=](float gradient, float& m_i, float& v_i, float& w_i, float& copy) {
    update(gradient, m_i, v_i, w_i);
    copy = w_i;
  };
  team.for_each(count, update_and_copy, g, m, v, w, write_only(op.w_bf16.data() + first));
}

template <Team T>
SLIPWAY_HD void muon_momentum(const T& team, const MuonMomentum& op, std::size_t first, int count) {
  const float momentum = op.momentum, grad_scale = factor_or_one(op.grad_scale);
  if (std::isnan(grad_scale)) return;
  const auto look_ahead = [=](float& g, float& m) {
    g *= grad_scale;
    m = momentum * (m + g);
    g += m;
  };
  team.for_each(count, look_ahead, op.g.data() + first, op.m.data() + first);
}

template <Team T>
SLIPWAY_HD void muon_update(const T& team, const MuonUpdate& op, std::size_t first, int count) {
  if (std::isnan(factor_or_one(op.grad_scale))) return;
  const float decay_factor = op.decay_factor, rate = op.rate;
  const float* direction = op.direction.data() + first;
  float* w = op.w.data() + first;
  const auto update = [=](float direction_i, float& w_i) { w_i = decay_factor * w_i - rate * direction_i; };
  if (op.w_bf16.empty()) return team.for_each(count, update, direction, w);
  const auto update_and_copy = [=](float direction_i, float& w_i, float& copy) {
    update(direction_i, w_i);
    copy = w_i;
  };
  team.for_each(count, update_and_copy, direction, w, write_only(op.w_bf16.data() + first));
}

/// The gradient's norm and the clip factor, the same on every thread.
struct ClipResult {
  double norm;
  float factor;
};
template <Team T>
SLIPWAY_HD ClipResult clip_coef(const T& team, const ClipCoef& op) {
  const int stride = 2 * op.slots;
  const double non_finite = team.sum(static_cast<int>(op.losses.size()),
                                     [=](int i) { return std::isfinite(op.losses.data()[i]) ? 0.0 : 1.0; });
  const double squares = team.sum(op.slots, [=](int slot) {
    double sum = 0;
    for (int t = 0; t < op.tensor_parallel_size; ++t)
      for (int r = 0; r < op.data_parallel_size; ++r) {  // 0 except on the chunk's owner
        const double* slot_squares = op.squares + std::int64_t{t * op.data_parallel_size + r} * stride + 2 * slot;
        sum += (t == 0 ? slot_squares[0] : 0.0) + slot_squares[1];
      }
    return sum;
  });
  const double norm = sqrt(squares);
  const bool skip = non_finite != 0 || !std::isfinite(norm) || std::isnan(*op.factor);
  const bool clip = op.max_norm > 0 && norm > op.max_norm;
  return {norm, skip ? __builtin_nanf("") : clip ? static_cast<float>(op.max_norm / norm) : 1.0f};
}

/// The factor that Normalize multiplies x by.
SLIPWAY_HD inline float normalizing_factor(double squares, double min_squares) {
  return squares < min_squares ? 1.0f : static_cast<float>(1.0 / sqrt(squares));
}

}  // namespace slipway::body
