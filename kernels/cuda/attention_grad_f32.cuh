// Attention's gradient in f32: a warp computes two rows, one after the other, for each tile of 32 others.
#pragma once

#include "kernels/cuda/attention_backward.cuh"
#include "kernels/cuda/attention_f32.cuh"

namespace slipway::cuda {

inline constexpr int kRowsPerWarpF32 = 2, kRowsF32 = f32::kWarps * kRowsPerWarpF32;  // rows per warp, and per block

template <int kWidth>
__global__ void __launch_bounds__(f32::kThreads, f32::kBlocks)
    attention_dq_f32(const AttentionGrad op, const AttentionParams params, const float* delta_NH, int tiles) {
  using namespace f32;
  using Tile = PaddedTile<kWidth>;
  SLIPWAY_SHARED(float, q_memory, kRowsF32* kWidth);
  SLIPWAY_SHARED(float, dout_memory, kRowsF32* kWidth);
  SLIPWAY_SHARED(float, k_memory, kTileRows* Tile::kStride);
  SLIPWAY_SHARED(float, v_memory, kTileRows* Tile::kStride);
  const Tile k{k_memory}, v{v_memory};
  SLIPWAY_SHARED(float, weight_memory, kWarps* kTileRows);
  float* const weights = weight_memory + threadIdx.x / kWarpSize * kTileRows;
  const BlockCoord coord(static_cast<int>(blockIdx.x), params.heads, tiles);
  const int K = params.head_width, b = coord.sequence, h = coord.head, lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int t0 = coord.tile * kRowsF32, count = min(kRowsF32, params.queries - t0);
  const int warp_row = static_cast<int>(threadIdx.x) / kWarpSize * kRowsPerWarpF32;
  const std::int64_t n0 = params.query_row(b, t0), kv_col = std::int64_t{params.kv_head(h)} * K,
                     q_col = std::int64_t{h} * K;
  load_rows(q_memory, kWidth, kRowsF32, op.q_NHK.row<float>(n0) + q_col, op.q_NHK.stride, count, K);
  load_rows(dout_memory, kWidth, kRowsF32, op.dout_NHK.row<float>(n0) + q_col, op.dout_NHK.stride, count, K);

  Columns<kWidth> dq[kRowsPerWarpF32];
  const int begin = min_key_start(params, b, t0, t0 + count) / kTileRows * kTileRows,
            end = params.end_key(t0 + count - 1);
  for (int s0 = begin; s0 < end; s0 += kTileRows) {
    const std::int64_t row = params.key_row(b, s0);
    const int keys = min(kTileRows, params.keys - s0);
    __syncthreads();
    load_rows(k.rows, Tile::kStride, kTileRows, op.k_SGK.row<float>(row) + kv_col, op.k_SGK.stride, keys, K);
    load_rows(v.rows, Tile::kStride, kTileRows, op.v_SGK.row<float>(row) + kv_col, op.v_SGK.stride, keys, K);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kRowsPerWarpF32; ++i) {
      if (warp_row + i >= count) break;
      const QueryInfo query = load_query_info(op, params, delta_NH, b, h, t0 + warp_row + i);
      const ScoreGrad grad =
          score_grad(dot(q_memory + (warp_row + i) * kWidth, k.row(lane), K),
                     dot(dout_memory + (warp_row + i) * kWidth, v.row(lane), K), query, s0 + lane, params.scale);
      dq[i].add(grad.dscore, weights, k, K);
    }
  }
#pragma unroll
  for (int i = 0; i < kRowsPerWarpF32; ++i) {
    if (warp_row + i >= count) break;
    dq[i].scale(params.scale);
    dq[i].write(op.dq_NHK.row<float>(n0 + warp_row + i) + q_col, K);
  }
}

template <int kWidth>
__global__ void __launch_bounds__(f32::kThreads, f32::kBlocks)
    attention_dkdv_f32(const AttentionGrad op, const AttentionParams params, const float* delta_NH, int tiles) {
  using namespace f32;
  using Tile = PaddedTile<kWidth>;
  SLIPWAY_SHARED(float, k_memory, kRowsF32* kWidth);
  SLIPWAY_SHARED(float, v_memory, kRowsF32* kWidth);
  SLIPWAY_SHARED(float, q_memory, kTileRows* Tile::kStride);
  SLIPWAY_SHARED(float, dout_memory, kTileRows* Tile::kStride);
  const Tile q{q_memory}, dout{dout_memory};
  SLIPWAY_SHARED(float, weight_memory, kWarps* kTileRows);
  float* const weights = weight_memory + threadIdx.x / kWarpSize * kTileRows;
  const BlockCoord coord(static_cast<int>(blockIdx.x), params.kv_heads, tiles);
  const int K = params.head_width, b = coord.sequence, g = coord.head, lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int s0 = coord.tile * kRowsF32, count = min(kRowsF32, params.keys - s0);
  const int warp_row = static_cast<int>(threadIdx.x) / kWarpSize * kRowsPerWarpF32;
  const std::int64_t row0 = params.key_row(b, s0), kv_col = std::int64_t{g} * K;
  load_rows(k_memory, kWidth, kRowsF32, op.k_SGK.row<float>(row0) + kv_col, op.k_SGK.stride, count, K);
  load_rows(v_memory, kWidth, kRowsF32, op.v_SGK.row<float>(row0) + kv_col, op.v_SGK.stride, count, K);

  Columns<kWidth> dk[kRowsPerWarpF32], dv[kRowsPerWarpF32];
  for (int h = 0; h < params.heads; ++h) {
    if (params.kv_head(h) != g) continue;
    const std::int64_t q_col = std::int64_t{h} * K;
    for (int t0 = s0 / kTileRows * kTileRows; t0 < params.queries; t0 += kTileRows) {
      const std::int64_t n0 = params.query_row(b, t0);
      const int queries = min(kTileRows, params.queries - t0), t = t0 + lane;
      __syncthreads();
      load_rows(q.rows, Tile::kStride, kTileRows, op.q_NHK.row<float>(n0) + q_col, op.q_NHK.stride, queries, K);
      load_rows(dout.rows, Tile::kStride, kTileRows, op.dout_NHK.row<float>(n0) + q_col, op.dout_NHK.stride, queries,
                K);
      __syncthreads();
      const QueryInfo query = t < params.queries ? load_query_info(op, params, delta_NH, b, h, t) : QueryInfo{};
#pragma unroll
      for (int i = 0; i < kRowsPerWarpF32; ++i) {
        if (warp_row + i >= count) break;
        const ScoreGrad grad = score_grad(dot(k_memory + (warp_row + i) * kWidth, q.row(lane), K),
                                          dot(v_memory + (warp_row + i) * kWidth, dout.row(lane), K), query,
                                          s0 + warp_row + i, params.scale);
        dv[i].add(grad.weight, weights, dout, K);
        dk[i].add(grad.dscore, weights, q, K);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kRowsPerWarpF32; ++i) {
    if (warp_row + i >= count) break;
    dk[i].scale(params.scale);
    dk[i].write(op.dk_SGK.row<float>(row0 + warp_row + i) + kv_col, K);
    dv[i].write(op.dv_SGK.row<float>(row0 + warp_row + i) + kv_col, K);
  }
}

}  // namespace slipway::cuda
