// Formulas of kernels/embedding.hpp, for one token.
#pragma once

#include "kernels/embedding.hpp"
#include "kernels/team.hpp"

namespace slipway::body {

template <bool kAccumulate, Team T>
SLIPWAY_HD void embedding(const T& team, const Embedding& op, int n) {
  const int row = op.id_N[n] - op.vocab_start;
  const bool is_local = row >= 0 && row < op.table_VD.rows;
  const float* table_D = op.table_VD.row(is_local ? row : 0);
  float* y_D = op.y_ND.row(n);
  if constexpr (kAccumulate) {
    if (is_local)
      team.for_each(
          op.y_ND.cols, [](float weight, float& y) { y += weight; }, table_D, y_D);
  } else if (is_local) {
    team.for_each(
        op.y_ND.cols, [](float weight, float& y) { y = weight; }, table_D, write_only(y_D));
  } else {
    team.for_each(
        op.y_ND.cols, [](float& y) { y = 0.0f; }, write_only(y_D));
  }
}

/// Columns [first, first + count) of the token's gradient.
template <Team T>
SLIPWAY_HD void embedding_grad(const T& team, const EmbeddingGrad& op, int n, int first, int count) {
  const int row = op.id_N[n] - op.vocab_start;
  if (row < 0 || row >= op.dtable_VD.rows) return;
  const float* dy_D = op.dy_ND.row(n) + first;
  float* dtable_D = op.dtable_VD.row(row) + first;
  team.for_each(
      count, [](float dy, float& dtable) { dtable += dy; }, dy_D, dtable_D);
}

}  // namespace slipway::body
