#include "kernels/body/embedding.hpp"

#include "kernels/checks.hpp"
#include "kernels/cuda/ops.cuh"
#include "kernels/cuda/rows.cuh"

namespace slipway::cuda {
namespace {

template <bool kAccumulate>
struct EmbeddingRow {
  Embedding op;
  template <class T>
  __device__ void operator()(const T& team, int n) const {
    body::embedding<kAccumulate>(team, op, n);
  }
};

/// One warp per token n and range of columns. The warp of the first token of an id adds the gradients of all tokens
/// with that id, in order; the others return. So no two warps write the same element, and the order is that of tokens.
///
/// Cost     each warp compares the ids before its own, that of a first token all ids: N^2 / 64 coalesced reads at most.
__global__ void __launch_bounds__(kBlockThreads) embedding_grad_tokens(const EmbeddingGrad op) {
  const Warp team;
  const int N = op.dy_ND.rows, first_col = static_cast<int>(blockIdx.y) * kMaxWarpCols;
  const int n = static_cast<int>(blockIdx.x) * kBlockWarps + static_cast<int>(threadIdx.x) / kWarpSize;
  if (n >= N) return;
  const int id = op.id_N[n];
  const auto matching_tokens = [&](int begin, int end) {  // which of the 32 tokens from `begin` on have the id
    const int token = begin + team.team_rank();
    return __ballot_sync(kFullWarpMask, token < end && op.id_N[token] == id);
  };
  for (int begin = 0; begin < n; begin += kWarpSize)
    if (matching_tokens(begin, n) != 0) return;
  const int remaining_cols = op.dy_ND.cols - first_col,
            count = remaining_cols < kMaxWarpCols ? remaining_cols : kMaxWarpCols;
  for (int begin = n; begin < N; begin += kWarpSize)
    for (unsigned matches = matching_tokens(begin, N); matches != 0; matches &= matches - 1)
      body::embedding_grad(team, op, begin + __ffs(static_cast<int>(matches)) - 1, first_col, count);
}

}  // namespace

void embedding(Stream& stream, const Embedding& op) {
  check(op);
  const int rows = op.y_ND.rows, cols = op.y_ND.cols;
  if (op.accumulate) return for_each_row("embedding", stream, rows, cols, EmbeddingRow<true>{op});
  for_each_row("embedding", stream, rows, cols, EmbeddingRow<false>{op});
}

void embedding_grad(Stream& stream, const EmbeddingGrad& op) {
  check(op);
  launch({.name = "embedding_grad",
          .blocks = (op.dy_ND.rows + kBlockWarps - 1) / kBlockWarps,
          .blocks_y = (op.dy_ND.cols + kMaxWarpCols - 1) / kMaxWarpCols,
          .threads = kBlockThreads},
         embedding_grad_tokens, cuda_stream_of(stream).stream(), op);
}

}  // namespace slipway::cuda
