// From logits to tokens: the likeliest, or drawn ones.
#pragma once

#include <cstdint>

#include "kernels/backend/stream.hpp"
#include "src/core/tensor.hpp"

namespace slipway {

/// A token for every row of logits: the likeliest, or one drawn by the weights `w[v] = exp((logit[v] - largest) /
/// temperature)`.
///
/// Allowed tokens stand in the order of their weights, the largest first, and among equals of their ids. The first
/// `top_k` are kept; of them the fewest that hold the share `top_p` of their weight; and the token is the first at
/// which the sum of the weights up to it passes `uniform` times what is kept. Nothing is drawn where the temperature is
/// 0, top_k is 1 or the largest logit is -inf: the likeliest token is the one with the largest logit, and among equals
/// with the lowest id.
///
/// Shapes   logits [B, V], V >= 1; allowed [B, V], or [1, V] for all rows, 0 forbids; uniform [B], each in [0, 1);
///          id [B].
/// Precision weights and their sums f64, in an order that depends on V alone; a token of weight 0 is never drawn.
///          id: -1 - v where the logit of token v, the first such one, is NaN or +inf, allowed or not; V where no token
///          is allowed.
/// Cost     reads the logits once where nothing is drawn. On the CPU a draw is O(V), and O(log V) for each token that
///          stands before it. On a GPU, where a block has a row, it is some 8 passes, 32 at most, over V weights in
///          f64 for each of top_k, top_p and the token itself.
struct Sample {
  Matrix<const float> logits_BV;
  Matrix<const std::uint8_t> allowed_BV;  ///< without memory: every token is
  const double* uniform_B = nullptr;      ///< not looked at where draws() is false
  double temperature = 1;
  int top_k = 0;     ///< 0: all
  double top_p = 1;  ///< 1: all
  int* id_B = nullptr;

  SLIPWAY_HD bool draws() const { return temperature > 0 && top_k != 1; }
  /// The mask of row b; null where every token is allowed.
  SLIPWAY_HD const std::uint8_t* allowed(int b) const {
    return allowed_BV.data == nullptr ? nullptr : allowed_BV.row(allowed_BV.rows == 1 ? 0 : b);
  }
};

}  // namespace slipway
