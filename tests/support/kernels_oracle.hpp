// Every op as f64 loops, written from its docstring and not from its kernel. Matrices are row by row, without padding.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "kernels/attention.hpp"

namespace slipway::oracle {

using F64Vector = std::vector<double>;

inline std::size_t flat_index(std::int64_t row, std::int64_t cols, std::int64_t col) {
  return static_cast<std::size_t>(row * cols + col);
}

inline F64Vector matmul(const F64Vector& a, const F64Vector& b, int M, int N, int K, bool transpose_a, bool transpose_b,
                        F64Vector c) {
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; ++n)
      for (int k = 0; k < K; ++k)
        c[flat_index(m, N, n)] += (transpose_a ? a[flat_index(k, M, m)] : a[flat_index(m, K, k)]) *
                                  (transpose_b ? b[flat_index(n, K, k)] : b[flat_index(k, N, n)]);
  return c;
}

inline F64Vector rms_norm(const F64Vector& x, const F64Vector& gain, int R, int D, double eps) {
  F64Vector y(x.size());
  for (int r = 0; r < R; ++r) {
    double sum = 0;
    for (int d = 0; d < D; ++d) sum += x[flat_index(r, D, d)] * x[flat_index(r, D, d)];
    for (int d = 0; d < D; ++d)
      y[flat_index(r, D, d)] = x[flat_index(r, D, d)] / std::sqrt(sum / D + eps) * gain[static_cast<std::size_t>(d)];
  }
  return y;
}

/// From the quotient rule: with y = x gain / s and s = sqrt(mean(x^2) + eps), ds/dx[d] = x[d] / (D s).
inline void rms_norm_grad(const F64Vector& x, const F64Vector& gain, const F64Vector& dy, int R, int D, double eps,
                          F64Vector& dx, F64Vector& dgain) {
  dx.assign(x.size(), 0.0);
  for (int r = 0; r < R; ++r) {
    double sum = 0, ds = 0;
    for (int d = 0; d < D; ++d) sum += x[flat_index(r, D, d)] * x[flat_index(r, D, d)];
    const double s = std::sqrt(sum / D + eps);
    for (int d = 0; d < D; ++d) {
      const double dy_d = dy[flat_index(r, D, d)], x_d = x[flat_index(r, D, d)],
                   gain_d = gain[static_cast<std::size_t>(d)];
      ds -= dy_d * gain_d * x_d / (s * s);
      dx[flat_index(r, D, d)] += dy_d * gain_d / s;
      dgain[static_cast<std::size_t>(d)] += dy_d * x_d / s;
    }
    for (int d = 0; d < D; ++d) dx[flat_index(r, D, d)] += ds * x[flat_index(r, D, d)] / (D * s);
  }
}

/// The mean of D values from x[first] on, and the square root of their biased variance with eps added.
struct RowMoments {
  double mean = 0, std = 0;
};
inline RowMoments moments(const F64Vector& x, std::size_t first, int D, double eps) {
  double sum = 0, squares = 0;
  for (int d = 0; d < D; ++d) sum += x[first + static_cast<std::size_t>(d)];
  const double mean = sum / D;
  for (int d = 0; d < D; ++d) squares += std::pow(x[first + static_cast<std::size_t>(d)] - mean, 2);
  return {mean, std::sqrt(squares / D + eps)};
}

/// An empty bias: none.
inline F64Vector layer_norm(const F64Vector& x, const F64Vector& gain, const F64Vector& bias, int R, int D,
                            double eps) {
  F64Vector y(x.size());
  for (int r = 0; r < R; ++r) {
    const RowMoments row = moments(x, flat_index(r, D, 0), D, eps);
    for (int d = 0; d < D; ++d) {
      const std::size_t i = flat_index(r, D, d), column = static_cast<std::size_t>(d);
      y[i] = (x[i] - row.mean) / row.std * gain[column] + (bias.empty() ? 0 : bias[column]);
    }
  }
  return y;
}

/// From the chain rule: with n = (x - mean) / std and y = n gain + bias, dn[d]/dx[e] = ((d == e) - (1 + n[d] n[e]) / D)
/// / std.
inline void layer_norm_grad(const F64Vector& x, const F64Vector& gain, const F64Vector& dy, int R, int D, double eps,
                            F64Vector& dx, F64Vector& dgain, F64Vector& dbias) {
  dx.assign(x.size(), 0.0);
  for (int r = 0; r < R; ++r) {
    const RowMoments row = moments(x, flat_index(r, D, 0), D, eps);
    double of_mean = 0, of_std = 0;
    for (int d = 0; d < D; ++d) {
      const std::size_t i = flat_index(r, D, d), column = static_cast<std::size_t>(d);
      const double n = (x[i] - row.mean) / row.std;
      dx[i] = dy[i] * gain[column] / row.std;
      of_mean += dx[i] / D;
      of_std += dx[i] * n / D;
      dgain[column] += dy[i] * n;
      dbias[column] += dy[i];
    }
    for (std::size_t i = flat_index(r, D, 0); i < flat_index(r, D, D); ++i)
      dx[i] -= of_mean + of_std * (x[i] - row.mean) / row.std;
  }
}

inline F64Vector rope(F64Vector x, const std::vector<int>& position, int N, int heads, int K, double base,
                      bool inverse) {
  for (int n = 0; n < N; ++n)
    for (int h = 0; h < heads; ++h)
      for (int j = 0; j < K / 2; ++j) {
        const double angle = position[static_cast<std::size_t>(n)] * std::pow(base, -2.0 * j / K) * (inverse ? -1 : 1);
        double &x1 = x[flat_index(n, heads * K, h * K + j)], &x2 = x[flat_index(n, heads * K, h * K + j + K / 2)];
        const double rotated = x1 * std::cos(angle) - x2 * std::sin(angle);
        x2 = x2 * std::cos(angle) + x1 * std::sin(angle);
        x1 = rotated;
      }
  return x;
}

inline F64Vector swiglu(const F64Vector& gate, const F64Vector& up) {
  F64Vector y(gate.size());
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
  return y;
}

inline void swiglu_grad(const F64Vector& gate, const F64Vector& up, const F64Vector& dy, F64Vector& dgate,
                        F64Vector& dup) {
  dgate.resize(gate.size());
  dup.resize(gate.size());
  for (std::size_t i = 0; i < gate.size(); ++i) {
    const double e = std::exp(-gate[i]);
    dup[i] = dy[i] * gate[i] / (1 + e);
    dgate[i] = dy[i] * up[i] * (1 / (1 + e) + gate[i] * e / ((1 + e) * (1 + e)));
  }
}

constexpr double kGeluScale = 0.79788456080286535588;  // sqrt(2 / pi)

inline F64Vector gelu(const F64Vector& x) {
  F64Vector y;
  for (const double v : x) y.push_back(0.5 * v * (1 + std::tanh(kGeluScale * (v + 0.044715 * v * v * v))));
  return y;
}

inline F64Vector gelu_grad(const F64Vector& x, const F64Vector& dy) {
  F64Vector dx;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double v = x[i], tanh = std::tanh(kGeluScale * (v + 0.044715 * v * v * v));
    dx.push_back(dy[i] * 0.5 * (1 + tanh + v * (1 - tanh * tanh) * kGeluScale * (1 + 3 * 0.044715 * v * v)));
  }
  return dx;
}

inline double log_sum_exp(std::span<const double> logits) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const double logit : logits) sum += std::exp(logit - max);
  return max + std::log(sum);
}

/// Sum over rows of weight * (log-sum-exp - target's logit).
inline double cross_entropy(const F64Vector& logits, const std::vector<int>& target, const F64Vector& weight, int R,
                            int V, int valid) {
  double loss = 0;
  for (int r = 0; r < R; ++r) {
    const double lse = log_sum_exp({logits.data() + flat_index(r, V, 0), static_cast<std::size_t>(valid)});
    loss += weight[static_cast<std::size_t>(r)] * (lse - logits[flat_index(r, V, target[static_cast<std::size_t>(r)])]);
  }
  return loss;
}

/// The weights that query t of head h gives to the keys, zeros where it does not look.
inline F64Vector attention_weights(const AttentionShape& shape, const F64Vector& q, const F64Vector& k, int b, int h,
                                   int t) {
  const int K = shape.head_width, S = shape.keys, T = shape.queries;
  const int key_rows = shape.key_rows == 0 ? S : shape.key_rows;
  const int g = std::min((h + shape.first_head) / shape.queries_per_kv, shape.kv_heads - 1);
  const int first = shape.key_start_BT == nullptr ? 0 : shape.key_start_BT[b * T + t];
  F64Vector scores;
  for (int s = first; s <= t + S - T; ++s) {
    double score = 0;
    for (int d = 0; d < K; ++d)
      score += q[flat_index(b * T + t, shape.heads * K, h * K + d)] *
               k[flat_index(b * key_rows + s, shape.kv_heads * K, g * K + d)];
    scores.push_back(score * static_cast<double>(shape.scale));
  }
  const double lse = log_sum_exp(scores);
  F64Vector weights(static_cast<std::size_t>(S) + 1);  // the last one carries the log of the denominator
  for (std::size_t i = 0; i < scores.size(); ++i)
    weights[static_cast<std::size_t>(first) + i] = std::exp(scores[i] - lse);
  weights.back() = lse;
  return weights;
}

inline void attention(const AttentionShape& shape, const F64Vector& q, const F64Vector& k, const F64Vector& v,
                      F64Vector& out, F64Vector& lse) {
  const int K = shape.head_width, S = shape.keys, T = shape.queries, H = shape.heads, G = shape.kv_heads;
  const int key_rows = shape.key_rows == 0 ? S : shape.key_rows;
  out.assign(q.size(), 0.0);
  lse.assign(static_cast<std::size_t>(shape.sequences) * static_cast<std::size_t>(T) * static_cast<std::size_t>(H),
             0.0);
  for (int b = 0; b < shape.sequences; ++b)
    for (int h = 0; h < H; ++h)
      for (int t = 0; t < T; ++t) {
        const int g = std::min((h + shape.first_head) / shape.queries_per_kv, G - 1);
        const F64Vector weights = attention_weights(shape, q, k, b, h, t);
        lse[flat_index(b * T + t, H, h)] = weights.back();
        for (int s = 0; s < S; ++s)
          for (int d = 0; d < K; ++d)
            out[flat_index(b * T + t, H * K, h * K + d)] +=
                weights[static_cast<std::size_t>(s)] * v[flat_index(b * key_rows + s, G * K, g * K + d)];
      }
}

/// From the Jacobian of the softmax: dscore[s] = weight[s] * (dout . v[s] - sum over s' of weight[s'] dout . v[s']).
inline void attention_grad(const AttentionShape& shape, const F64Vector& q, const F64Vector& k, const F64Vector& v,
                           const F64Vector& dout, F64Vector& dq, F64Vector& dk, F64Vector& dv) {
  const int K = shape.head_width, S = shape.keys, T = shape.queries, H = shape.heads, G = shape.kv_heads;
  dq.assign(q.size(), 0.0);
  dk.assign(k.size(), 0.0);
  dv.assign(v.size(), 0.0);
  for (int b = 0; b < shape.sequences; ++b)
    for (int h = 0; h < H; ++h)
      for (int t = 0; t < T; ++t) {
        const int g = std::min((h + shape.first_head) / shape.queries_per_kv, G - 1);
        const F64Vector weights = attention_weights(shape, q, k, b, h, t);
        F64Vector dweights(static_cast<std::size_t>(S));
        double mean = 0;
        for (int s = 0; s < S; ++s) {
          double& dweight = dweights[static_cast<std::size_t>(s)];
          for (int d = 0; d < K; ++d)
            dweight += dout[flat_index(b * T + t, H * K, h * K + d)] * v[flat_index(b * S + s, G * K, g * K + d)];
          mean += weights[static_cast<std::size_t>(s)] * dweight;
        }
        for (int s = 0; s < S; ++s) {
          const double weight = weights[static_cast<std::size_t>(s)];
          const double dscore =
              static_cast<double>(shape.scale) * weight * (dweights[static_cast<std::size_t>(s)] - mean);
          for (int d = 0; d < K; ++d) {
            const std::size_t row_t = flat_index(b * T + t, H * K, h * K + d),
                              row_s = flat_index(b * S + s, G * K, g * K + d);
            dq[row_t] += dscore * k[row_s];
            dk[row_s] += dscore * q[row_t];
            dv[row_s] += weight * dout[row_t];
          }
        }
      }
}

/// `(f(x + h e_i) - f(x - h e_i)) / 2h` for every i, in f64: exact to about h^2, that is 1e-9 for values near 1.
template <class Function>
F64Vector central_differences(F64Vector x, const Function& f) {
  constexpr double kStep = 1e-5;
  F64Vector slope(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double middle = x[i];
    x[i] = middle + kStep;
    const double above = f(x);
    x[i] = middle - kStep;
    slope[i] = (above - f(x)) / (2 * kStep);
    x[i] = middle;
  }
  return slope;
}

inline double dot(const F64Vector& a, const F64Vector& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace slipway::oracle
