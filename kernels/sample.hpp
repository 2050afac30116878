// Sampling: token ids from logits, greedy or random.
#pragma once

#include <cstdint>

#include "kernels/backend/stream.hpp"
#include "src/core/tensor.hpp"

namespace slipway {

/// One token per row of logits: the most likely one (greedy), or one drawn with the weights `w[v] = exp((logit[v] -
/// largest) / temperature)`.
///
/// Allowed tokens are sorted by weight, the largest first, ties by id. The first `top_k` are kept; of these, the
/// shortest prefix with at least the share `top_p` of their weight; the result is the first token at which the
/// cumulative weight exceeds `uniform` times the weight of all tokens kept. A row is greedy where the temperature is 0,
/// top_k is 1 or the largest logit is -inf: the result is the token with the largest logit, ties to the lowest id.
///
/// Shapes   logits [B, V], V >= 1; allowed [B, V], or [1, V] for all rows, 0 forbids; uniform [B], each in [0, 1);
///          id [B].
/// Precision weights and their sums f64, in an order that depends on V alone; a token of weight 0 is never drawn.
/// Errors   id is -1 - v where v is the first token whose logit is NaN or +inf, allowed or not; V where no token is
///          allowed.
/// Cost     reads the logits once for greedy rows. On the CPU a draw is O(V), plus O(log V) for each token sorted
///          before the one drawn. On a GPU (one block per row) each of top_k, top_p and the draw takes about 8 passes,
///          32 at most, over V weights in f64.
struct Sample {
  Matrix<const float> logits_BV;
  Matrix<const std::uint8_t> allowed_BV;  ///< null: every token is allowed
  const double* uniform_B = nullptr;      ///< not read where is_random() is false
  double temperature = 1;
  int top_k = 0;     ///< 0: all
  double top_p = 1;  ///< 1: all
  int* id_B = nullptr;

  SLIPWAY_HD bool is_random() const { return temperature > 0 && top_k != 1; }
  /// The mask of row b; null where every token is allowed.
  SLIPWAY_HD const std::uint8_t* allowed(int b) const {
    return allowed_BV.data == nullptr ? nullptr : allowed_BV.row(allowed_BV.rows == 1 ? 0 : b);
  }
};

}  // namespace slipway
