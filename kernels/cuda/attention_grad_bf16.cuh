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
                           int own, int count, std::int64_t col0, int K) {
  sums.each([&](float& sum, int half, int col) {
    const int row = own + bf16::row_of_half(half);
    if (row < count && col < K) to.row<Bf16>(row0 + row)[col0 + col] = cast_to<Bf16>(scale * sum);
  });
}

/// Double-buffered tiles of two operands: the next tile is copied into one buffer while the other is read.
template <int kWidth>
struct TilePairs {
  static constexpr int kTileRows = bf16::kGradTileRows<kWidth>, kPacks = kTileRows * bf16::RowTile<kWidth>::kStride / 8;
  uint4 *first, *second;  ///< 2 kPacks each
  __device__ bf16::RowTile<kWidth> first_tile(int which) const {
    return {reinterpret_cast<Bf16*>(first + which * kPacks)};
  }
  __device__ bf16::RowTile<kWidth> second_tile(int which) const {
    return {reinterpret_cast<Bf16*>(second + which * kPacks)};
  }
};

template <int kWidth>
__global__ void __launch_bounds__(bf16::kLanes, bf16::kBlocks)
    attention_dq_bf16(const AttentionGrad op, const AttentionParams at, const float* delta_NH, int tiles) {
  using namespace bf16;
  constexpr int kTileRows = kGradTileRows<kWidth>, kRoom = max_of(2 * kTileRows, kRows) * RowTile<kWidth>::kStride / 8;
  SLIPWAY_SHARED(uint4, k_memory, kRoom);
  SLIPWAY_SHARED(uint4, v_memory, kRoom);
  const TilePairs<kWidth> pairs{k_memory, v_memory};
  const BlockCoord coord(static_cast<int>(blockIdx.x), at.heads, tiles);
  const int K = at.head_width, b = coord.sequence, h = coord.head;
  const int t0 = coord.tile * kRows, count = min(kRows, at.queries - t0);
  const int own = static_cast<int>(threadIdx.x) / kWarpSize * 16;
  const std::int64_t n0 = at.query_row(b, t0), kv_col = std::int64_t{at.kv_head(h)} * K, q_col = std::int64_t{h} * K;

  FragmentA<kWidth> q, dout;
  pairs.first_tile(0).start(kRows, op.q_NHK.row<Bf16>(n0) + q_col, op.q_NHK.stride, count, K);
  pairs.second_tile(0).start(kRows, op.dout_NHK.row<Bf16>(n0) + q_col, op.dout_NHK.stride, count, K);
  finish_copies();
  q.load(pairs.first_tile(0), own);
  dout.load(pairs.second_tile(0), own);
  __syncthreads();

  QueryInfo query[2];
#pragma unroll
  for (int half = 0; half < 2; ++half)
    if (const int row = own + row_of_half(half); row < count)
      query[half] = load_query_info(op, at, delta_NH, b, h, t0 + row);
  Accumulators<kWidth> dq;
  const int begin = lowest_first_key(at, b, t0, t0 + count) / kTileRows * kTileRows, end = at.end_key(t0 + count - 1);
  const auto start = [&](int s0, int which) {
    if (s0 < end) {
      const std::int64_t row = at.key_row(b, s0);
      const int keys = min(kTileRows, at.keys - s0);
      pairs.first_tile(which).start(kTileRows, op.k_SGK.row<Bf16>(row) + kv_col, op.k_SGK.stride, keys, K);
      pairs.second_tile(which).start(kTileRows, op.v_SGK.row<Bf16>(row) + kv_col, op.v_SGK.stride, keys, K);
    }
    cp_async_commit();
  };
  start(begin, 0);
  for (int s0 = begin, which = 0; s0 < end; s0 += kTileRows, which ^= 1) {
    start(s0 + kTileRows, which ^ 1);
    cp_async_wait<1>();
    __syncthreads();
    const RowTile<kWidth> k = pairs.first_tile(which), v = pairs.second_tile(which);
#pragma unroll
    for (int part = 0; part < kTileRows; part += kPart<kWidth>) {
      Accumulators<kPart<kWidth>> products, dweights;
      products.add_rows(q, k, part);
      dweights.add_rows(dout, v, part);
      products.each_with(dweights, [&](float& product, float& dweight, int half, int col) {
        product = score_grad(product, dweight, query[half], s0 + part + col, at.scale).dscore;
      });
      dq.add_weighted(products, k, part);
    }
    __syncthreads();  // all threads have read this pair
  }
  cp_async_wait<0>();
  write_rows(dq, at.scale, op.dq_NHK, n0, own, count, q_col, K);
}

/// Softmax statistics and first keys of a tile of queries.
template <int kTileRows>
struct QueryStats {
  float lse[kTileRows], delta[kTileRows];
  int first[kTileRows];
};

template <int kWidth>
__global__ void __launch_bounds__(bf16::kLanes, bf16::kBlocks)
    attention_dkdv_bf16(const AttentionGrad op, const AttentionParams at, const float* delta_NH, int tiles) {
  using namespace bf16;
  constexpr int kTileRows = kGradTileRows<kWidth>, kRoom = max_of(2 * kTileRows, kRows) * RowTile<kWidth>::kStride / 8;
  SLIPWAY_SHARED(uint4, q_memory, kRoom);
  SLIPWAY_SHARED(uint4, dout_memory, kRoom);
  SLIPWAY_SHARED(QueryStats<kTileRows>, stats, 2);
  const TilePairs<kWidth> pairs{q_memory, dout_memory};
  const BlockCoord coord(static_cast<int>(blockIdx.x), at.kv_heads, tiles);
  const int K = at.head_width, b = coord.sequence, g = coord.head;
  const int s0 = coord.tile * kRows, count = min(kRows, at.keys - s0);
  const int own = static_cast<int>(threadIdx.x) / kWarpSize * 16;
  const std::int64_t row0 = at.key_row(b, s0), kv_col = std::int64_t{g} * K;

  FragmentA<kWidth> k, v;
  pairs.first_tile(0).start(kRows, op.k_SGK.row<Bf16>(row0) + kv_col, op.k_SGK.stride, count, K);
  pairs.second_tile(0).start(kRows, op.v_SGK.row<Bf16>(row0) + kv_col, op.v_SGK.stride, count, K);
  finish_copies();
  k.load(pairs.first_tile(0), own);
  v.load(pairs.second_tile(0), own);
  __syncthreads();

  Accumulators<kWidth> dk, dv;
  for (int h = 0; h < at.heads; ++h) {
    if (at.kv_head(h) != g) continue;
    const std::int64_t q_col = std::int64_t{h} * K;
    const auto start = [&](int t0, int which) {
      if (t0 < at.queries) {
        const std::int64_t n0 = at.query_row(b, t0);
        const int others = min(kTileRows, at.queries - t0), t = static_cast<int>(threadIdx.x);
        pairs.first_tile(which).start(kTileRows, op.q_NHK.row<Bf16>(n0) + q_col, op.q_NHK.stride, others, K);
        pairs.second_tile(which).start(kTileRows, op.dout_NHK.row<Bf16>(n0) + q_col, op.dout_NHK.stride, others, K);
        if (t < others) {
          cp_async<4>(stats[which].lse + t, op.lse_NH.row(n0 + t) + h);
          cp_async<4>(stats[which].delta + t, delta_NH + (n0 + t) * at.heads + h);
          if (at.key_start_BT != nullptr) cp_async<4>(stats[which].first + t, at.key_start_BT + n0 + t);
        }
      }
      cp_async_commit();
    };
    const int begin = s0 / kTileRows * kTileRows;
    start(begin, 0);
    for (int t0 = begin, which = 0; t0 < at.queries; t0 += kTileRows, which ^= 1) {
      start(t0 + kTileRows, which ^ 1);
      cp_async_wait<1>();
      __syncthreads();
      const RowTile<kWidth> q = pairs.first_tile(which), dout = pairs.second_tile(which);
      const QueryStats<kTileRows>& query = stats[which];
#pragma unroll 1
      for (int part = 0; part < kTileRows; part += kPart<kWidth>) {
        Accumulators<kPart<kWidth>> products, dweights;
        products.add_rows(k, q, part);
        dweights.add_rows(v, dout, part);
        products.each_with(dweights, [&](float& product, float& dweight, int half, int col) {
          const int t = part + col;
          QueryInfo info;
          if (t0 + t < at.queries)
            info = {at.key_start_BT == nullptr ? 0 : query.first[t], at.end_key(t0 + t), query.lse[t], query.delta[t]};
          const ScoreGrad grad = score_grad(product, dweight, info, s0 + own + row_of_half(half), at.scale);
          product = grad.weight;
          dweight = grad.dscore;
        });
        dv.add_weighted(products, dout, part);
        dk.add_weighted(dweights, q, part);
      }
      __syncthreads();
    }
  }
  cp_async_wait<0>();
  write_rows(dk, at.scale, op.dk_SGK, row0, own, count, kv_col, K);
  write_rows(dv, 1.0f, op.dv_SGK, row0, own, count, kv_col, K);
}

}  // namespace slipway::cuda
