// Token embedding.
#pragma once

#include "kernels/backend/stream.hpp"
#include "src/core/tensor.hpp"

namespace slipway {

/// `y[n,:] = table[id[n] - vocab_start,:]`, zeros where another tensor rank holds that row. `accumulate` adds to y
/// instead of replacing it, as learned positions need; rows of other ranks then add nothing.
///
/// Shapes   table [V, D]; id [N]; y [N, D].
struct Embedding {
  Matrix<const float> table_VD;
  const int* id_N = nullptr;
  int vocab_start = 0;
  Matrix<float> y_ND;
  bool accumulate = false;
};

/// `dtable[id[n] - vocab_start,:] += dy[n,:]`, tokens in order, whatever the number of threads.
struct EmbeddingGrad {
  Matrix<const float> dy_ND;
  const int* id_N = nullptr;
  int vocab_start = 0;
  Matrix<float> dtable_VD;
};

}  // namespace slipway
