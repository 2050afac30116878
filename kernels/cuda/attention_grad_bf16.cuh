// Attention's gradient in bf16 on tensor cores: a warp computes 16 rows; the next tile of others is copied while the
// current one is used (double buffering).
#pragma once

#include "kernels/cuda/attention_backward.cuh"
#include "kernels/cuda/attention_bf16.cuh"

namespace slipway::cuda {

constexpr int max_of(int a, int b) { return a > b ? a : b; }

/// Writes a warp's 16 x K sums, scaled, to the rows from `first` on that are below `count`.
template <int kWidth>
__device__ void write_rows(bf16::Accumulators<kWidth>& sums, float scale, const TensorView& to, std::int64_t row0,
                           int warp_row, int count, std::int64_t col0, int K) {
  sums.for_each([&](float& sum, int half, int col) {
    const int row = warp_row + bf16::row_of_half(half);
    if (row < count && col < K) to.row<Bf16>(row0 + row)[col0 + col] = cast_to<Bf16>(scale * sum);
  });
}

/// Double-buffered tiles of two operands: the next tile is copied into one buffer while the other is read.
template <int kWidth>
struct TilePairs {
  static constexpr int kTileRows = bf16::kGradTileRows<kWidth>, kPacks = kTileRows * bf16::RowTile<kWidth>::kStride / 8;
  uint4 *first, *second;  ///< 2 kPacks each
  __device__ bf16::RowTile<kWidth> first_tile(int stage) const {
    return {reinterpret_cast<Bf16*>(first + stage * kPacks)};
  }
  __device__ bf16::RowTile<kWidth> second_tile(int stage) const {
    return {reinterpret_cast<Bf16*>(second + stage * kPacks)};
  }
};

template <int kWidth>
__global__ void __launch_bounds__(bf16::kThreads, bf16::kBlocks)
    attention_dq_bf16(const AttentionGrad op, const AttentionParams params, const float* delta_NH, int tiles) {
  using namespace bf16;
  constexpr int kTileRows = kGradTileRows<kWidth>,
                kBufferPacks = max_of(2 * kTileRows, kRows) * RowTile<kWidth>::kStride / 8;
  SLIPWAY_SHARED(uint4, k_memory, kBufferPacks);
  SLIPWAY_SHARED(uint4, v_memory, kBufferPacks);
  const TilePairs<kWidth> pairs{k_memory, v_memory};
  const BlockCoord coord(static_cast<int>(blockIdx.x), params.heads, tiles);
  const int K = params.head_width, b = coord.sequence, h = coord.head;
  const int t0 = coord.tile * kRows, count = min(kRows, params.queries - t0);
  const int warp_row = static_cast<int>(threadIdx.x) / kWarpSize * 16;
  const std::int64_t n0 = params.query_row(b, t0), kv_col = std::int64_t{params.kv_head(h)} * K,
                     q_col = std::int64_t{h} * K;

  FragmentA<kWidth> q, dout;
  pairs.first_tile(0).cp_async_rows(kRows, op.q_NHK.row<Bf16>(n0) + q_col, op.q_NHK.stride, count, K);
  pairs.second_tile(0).cp_async_rows(kRows, op.dout_NHK.row<Bf16>(n0) + q_col, op.dout_NHK.stride, count, K);
  finish_copies();
  q.load(pairs.first_tile(0), warp_row);
  dout.load(pairs.second_tile(0), warp_row);
  __syncthreads();

  QueryInfo query[2];
#pragma unroll
  for (int half = 0; half < 2; ++half)
    if (const int row = warp_row + row_of_half(half); row < count)
      query[half] = load_query_info(op, params, delta_NH, b, h, t0 + row);
  Accumulators<kWidth> dq;
  const int begin = min_key_start(params, b, t0, t0 + count) / kTileRows * kTileRows,
            end = params.end_key(t0 + count - 1);
  const auto cp_async_rows = [&](int s0, int stage) {
    if (s0 < end) {
      const std::int64_t row = params.key_row(b, s0);
      const int keys = min(kTileRows, params.keys - s0);
      pairs.first_tile(stage).cp_async_rows(kTileRows, op.k_SGK.row<Bf16>(row) + kv_col, op.k_SGK.stride, keys, K);
      pairs.second_tile(stage).cp_async_rows(kTileRows, op.v_SGK.row<Bf16>(row) + kv_col, op.v_SGK.stride, keys, K);
    }
    cp_async_commit();
  };
  cp_async_rows(begin, 0);
  for (int s0 = begin, stage = 0; s0 < end; s0 += kTileRows, stage ^= 1) {
    cp_async_rows(s0 + kTileRows, stage ^ 1);
    cp_async_wait<1>();
    __syncthreads();
    const RowTile<kWidth> k = pairs.first_tile(stage), v = pairs.second_tile(stage);
#pragma unroll
    for (int sub_tile = 0; sub_tile < kTileRows; sub_tile += kSubTileRows<kWidth>) {
      Accumulators<kSubTileRows<kWidth>> scores, dweights;
      scores.mma_nt(q, k, sub_tile);
      dweights.mma_nt(dout, v, sub_tile);
      scores.for_each_pair(dweights, [&](float& score, float& dweight, int half, int col) {
        score = score_grad(score, dweight, query[half], s0 + sub_tile + col, params.scale).dscore;
      });
      dq.mma_nn(scores, k, sub_tile);
    }
    __syncthreads();  // all threads have read this pair
  }
  cp_async_wait<0>();
  write_rows(dq, params.scale, op.dq_NHK, n0, warp_row, count, q_col, K);
}

/// Softmax statistics and first keys of a tile of queries.
template <int kTileRows>
struct QueryStats {
  float lse[kTileRows], delta[kTileRows];
  int first[kTileRows];
};

template <int kWidth>
__global__ void __launch_bounds__(bf16::kThreads, bf16::kBlocks)
    attention_dkdv_bf16(const AttentionGrad op, const AttentionParams params, const float* delta_NH, int tiles) {
  using namespace bf16;
  constexpr int kTileRows = kGradTileRows<kWidth>,
                kBufferPacks = max_of(2 * kTileRows, kRows) * RowTile<kWidth>::kStride / 8;
  SLIPWAY_SHARED(uint4, q_memory, kBufferPacks);
  SLIPWAY_SHARED(uint4, dout_memory, kBufferPacks);
  SLIPWAY_SHARED(QueryStats<kTileRows>, stats, 2);
  const TilePairs<kWidth> pairs{q_memory, dout_memory};
  const BlockCoord coord(static_cast<int>(blockIdx.x), params.kv_heads, tiles);
  const int K = params.head_width, b = coord.sequence, g = coord.head;
  const int s0 = coord.tile * kRows, count = min(kRows, params.keys - s0);
  const int warp_row = static_cast<int>(threadIdx.x) / kWarpSize * 16;
  const std::int64_t row0 = params.key_row(b, s0), kv_col = std::int64_t{g} * K;

  FragmentA<kWidth> k, v;
  pairs.first_tile(0).cp_async_rows(kRows, op.k_SGK.row<Bf16>(row0) + kv_col, op.k_SGK.stride, count, K);
  pairs.second_tile(0).cp_async_rows(kRows, op.v_SGK.row<Bf16>(row0) + kv_col, op.v_SGK.stride, count, K);
  finish_copies();
  k.load(pairs.first_tile(0), warp_row);
  v.load(pairs.second_tile(0), warp_row);
  __syncthreads();

  Accumulators<kWidth> dk, dv;
  for (int h = 0; h < params.heads; ++h) {
    if (params.kv_head(h) != g) continue;
    const std::int64_t q_col = std::int64_t{h} * K;
    const auto cp_async_rows = [&](int t0, int stage) {
      if (t0 < params.queries) {
        const std::int64_t n0 = params.query_row(b, t0);
        const int num_queries = min(kTileRows, params.queries - t0), t = static_cast<int>(threadIdx.x);
        pairs.first_tile(stage).cp_async_rows(kTileRows, op.q_NHK.row<Bf16>(n0) + q_col, op.q_NHK.stride, num_queries,
                                              K);
        pairs.second_tile(stage).cp_async_rows(kTileRows, op.dout_NHK.row<Bf16>(n0) + q_col, op.dout_NHK.stride,
                                               num_queries, K);
        if (t < num_queries) {
          cp_async<4>(stats[stage].lse + t, op.lse_NH.row(n0 + t) + h);
          cp_async<4>(stats[stage].delta + t, delta_NH + (n0 + t) * params.heads + h);
          if (params.key_start_BT != nullptr) cp_async<4>(stats[stage].first + t, params.key_start_BT + n0 + t);
        }
      }
      cp_async_commit();
    };
    const int begin = s0 / kTileRows * kTileRows;
    cp_async_rows(begin, 0);
    for (int t0 = begin, stage = 0; t0 < params.queries; t0 += kTileRows, stage ^= 1) {
      cp_async_rows(t0 + kTileRows, stage ^ 1);
      cp_async_wait<1>();
      __syncthreads();
      const RowTile<kWidth> q = pairs.first_tile(stage), dout = pairs.second_tile(stage);
      const QueryStats<kTileRows>& query = stats[stage];
#pragma unroll 1
      for (int sub_tile = 0; sub_tile < kTileRows; sub_tile += kSubTileRows<kWidth>) {
        Accumulators<kSubTileRows<kWidth>> scores, dweights;
        scores.mma_nt(k, q, sub_tile);
        dweights.mma_nt(v, dout, sub_tile);
        scores.for_each_pair(dweights, [&](float& score, float& dweight, int half, int col) {
          const int t = sub_tile + col;
          QueryInfo info;
          if (t0 + t < params.queries)
            info = {params.key_start_BT == nullptr ? 0 : query.first[t], params.end_key(t0 + t), query.lse[t],
                    query.delta[t]};
          const ScoreGrad grad = score_grad(score, dweight, info, s0 + warp_row + row_of_half(half), params.scale);
          score = grad.weight;
          dweight = grad.dscore;
        });
        dv.mma_nn(scores, dout, sub_tile);
        dk.mma_nn(dweights, q, sub_tile);
      }
      __syncthreads();
    }
  }
  cp_async_wait<0>();
  write_rows(dk, params.scale, op.dk_SGK, row0, warp_row, count, kv_col, K);
  write_rows(dv, 1.0f, op.dv_SGK, row0, warp_row, count, kv_col, K);
}

}  // namespace slipway::cuda
