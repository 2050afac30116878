// Token embedding.
#pragma once

#include "kernels/backend/stream.hpp"
#include "src/core/tensor.hpp"

namespace slipway {

/// `y[n,:] = table[id[n] - first_id,:]`, and zeros where that row is not here (another tensor rank holds it).
/// `accumulate` adds to y instead of replacing it, as learned positions do; a row that is not here then adds nothing.
///
/// Shapes   table [V, D]; id [N]; y [N, D].
struct Embedding {
  Matrix<const float> table_VD;
  const int* id_N = nullptr;
  int first_id = 0;
  Matrix<float> y_ND;
  bool accumulate = false;
};

/// `dtable[id[n] - first_id,:] += dy[n,:]`, tokens in order, whatever the threads.
struct EmbeddingGrad {
  Matrix<const float> dy_ND;
  const int* id_N = nullptr;
  int first_id = 0;
  Matrix<float> dtable_VD;
};

}  // namespace slipway
