#include <cmath>

#include "kernels/checks.hpp"
#include "kernels/cuda/attention_bf16.cuh"
#include "kernels/cuda/attention_f32.cuh"
#include "kernels/cuda/cuda_stream.cuh"
#include "kernels/cuda/ops.cuh"

namespace slipway::cuda {
namespace {

/// Online softmax of a row: the running maximum and sum.
struct OnlineSoftmax {
  float max = -__builtin_inff(), sum = 0.0f;

  /// Updates the maximum with that of a tile; returns the factor that rescales earlier sums. The sum of a row without
  /// keys stays 0.
  __device__ float update_max(float tile_max) {
    const float old_max = max;
    max = Max{}(max, tile_max);
    const float factor = body::exp(old_max - base());
    sum *= factor;
    return factor;
  }
  __device__ float weight(float score) const { return body::exp(score - base()); }
  /// 0 for a query without keys.
  __device__ float inverse_sum() const { return sum == 0.0f ? 0.0f : 1.0f / sum; }
  __device__ float lse() const { return max + logf(sum); }

 private:
  __device__ float base() const { return max == -__builtin_inff() ? 0.0f : max; }
};

/// f32: a warp computes four queries, one after the other, for each tile of keys.
template <int kWidth>
__global__ void __launch_bounds__(f32::kThreads, f32::kBlocks)
    attend_f32(const Attention op, const AttentionParams params, int tiles) {
  using namespace f32;
  SLIPWAY_SHARED(float, q_memory, kRows* kWidth);
  SLIPWAY_SHARED(float, k_memory, kTileRows* PaddedTile<kWidth>::kStride);
  SLIPWAY_SHARED(float, v_memory, kTileRows* PaddedTile<kWidth>::kStride);
  const PaddedTile<kWidth> k{k_memory}, v{v_memory};
  SLIPWAY_SHARED(float, weight_memory, kWarps* kTileRows);
  float* const weights = weight_memory + threadIdx.x / kWarpSize * kTileRows;
  const BlockCoord coord(static_cast<int>(blockIdx.x), params.heads, tiles);
  const int K = params.head_width, b = coord.sequence, h = coord.head, lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int t0 = coord.tile * kRows, count = min(kRows, params.queries - t0);
  const int warp_row = static_cast<int>(threadIdx.x) / kWarpSize * kRowsPerWarp;  // the warp's first query of the tile
  const std::int64_t kv_col = std::int64_t{params.kv_head(h)} * K, q_col = std::int64_t{h} * K;
  load_rows(q_memory, kWidth, kRows, op.q_NHK.row<float>(params.query_row(b, t0)) + q_col, op.q_NHK.stride, count, K);

  OnlineSoftmax softmax[kRowsPerWarp];
  Columns<kWidth> out[kRowsPerWarp];
  const int begin = min_key_start(params, b, t0, t0 + count) / kTileRows * kTileRows,
            end = params.end_key(t0 + count - 1);
  for (int s0 = begin; s0 < end; s0 += kTileRows) {
    const std::int64_t row = params.key_row(b, s0);
    const int keys = min(kTileRows, params.keys - s0);
    __syncthreads();  // the previous tile has been read
    load_rows(k.rows, k.kStride, kTileRows, op.k_SGK.row<float>(row) + kv_col, op.k_SGK.stride, keys, K);
    load_rows(v.rows, v.kStride, kTileRows, op.v_SGK.row<float>(row) + kv_col, op.v_SGK.stride, keys, K);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kRowsPerWarp; ++i) {
      const int t = t0 + warp_row + i, s = s0 + lane;
      if (t >= t0 + count) break;
      const bool is_visible = s >= params.key_start(b, t) && s < params.end_key(t);
      const float score =
          is_visible ? params.scale * dot(q_memory + (warp_row + i) * kWidth, k.row(lane), K) : -__builtin_inff();
      out[i].scale(softmax[i].update_max(reduce_warp(score, Max{})));
      const float weight = softmax[i].weight(score);
      softmax[i].sum += reduce_warp(weight, Plus{});
      out[i].add(weight, weights, v, K);
    }
  }
#pragma unroll
  for (int i = 0; i < kRowsPerWarp; ++i) {
    const int t = t0 + warp_row + i;
    if (t >= t0 + count) break;
    const std::int64_t n = params.query_row(b, t);
    out[i].scale(softmax[i].inverse_sum());
    out[i].write(op.out_NHK.row<float>(n) + q_col, K);
    if (lane == 0) op.lse_NH.row(n)[h] = softmax[i].lse();
  }
}

/// bf16: a warp computes 16 queries on tensor cores.
template <int kWidth>
__global__ void __launch_bounds__(bf16::kThreads, bf16::kBlocks)
    attend_bf16(const Attention op, const AttentionParams params, int tiles) {
  using namespace bf16;
  SLIPWAY_SHARED(uint4, k_memory, kRows * RowTile<kWidth>::kStride / 8);
  SLIPWAY_SHARED(uint4, v_memory, kRows * RowTile<kWidth>::kStride / 8);
  const RowTile<kWidth> k{reinterpret_cast<Bf16*>(k_memory)}, v{reinterpret_cast<Bf16*>(v_memory)};
  const BlockCoord coord(static_cast<int>(blockIdx.x), params.heads, tiles);
  const int K = params.head_width, b = coord.sequence, h = coord.head;
  const int t0 = coord.tile * kRows, count = min(kRows, params.queries - t0);
  const int warp_row = static_cast<int>(threadIdx.x) / kWarpSize * 16;  // the warp's first query of the tile
  const std::int64_t kv_col = std::int64_t{params.kv_head(h)} * K, q_col = std::int64_t{h} * K;

  FragmentA<kWidth> q;
  k.cp_async_rows(kRows, op.q_NHK.row<Bf16>(params.query_row(b, t0)) + q_col, op.q_NHK.stride, count, K);
  finish_copies();
  q.load(k, warp_row);
  __syncthreads();

  int first[2], end_key[2];  // key ranges of this thread's two queries; empty for queries beyond the last
  OnlineSoftmax softmax[2];
  Accumulators<kWidth> out;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = warp_row + row_of_half(half);
    first[half] = row < count ? params.key_start(b, t0 + row) : 0;
    end_key[half] = row < count ? params.end_key(t0 + row) : 0;
  }
  const int begin = min_key_start(params, b, t0, t0 + count) / kRows * kRows, end = params.end_key(t0 + count - 1);
  // Keys and values have one tile in shared memory each: the next keys are copied once the scores are computed, the
  // next values once the weighted sums are.
  const auto cp_async_rows = [&](const RowTile<kWidth>& tile, const ConstTensorView& rows_SGK, int s0) {
    if (s0 < end)
      tile.cp_async_rows(kRows, rows_SGK.row<Bf16>(params.key_row(b, s0)) + kv_col, rows_SGK.stride,
                         min(kRows, params.keys - s0), K);
    cp_async_commit();
  };
  cp_async_rows(k, op.k_SGK, begin);
  cp_async_rows(v, op.v_SGK, begin);
  for (int s0 = begin; s0 < end; s0 += kRows) {
    Accumulators<kRows> scores;
    cp_async_wait<1>();
    __syncthreads();
    scores.mma_nt(q, k, 0);
    __syncthreads();  // all threads have read the keys
    cp_async_rows(k, op.k_SGK, s0 + kRows);
    float tile_max[2] = {-__builtin_inff(), -__builtin_inff()}, factor[2], total[2] = {};
    scores.for_each([&](float& score, int half, int col) {
      const bool is_visible = s0 + col >= first[half] && s0 + col < end_key[half];
      score = is_visible ? params.scale * score : -__builtin_inff();
      tile_max[half] = Max{}(tile_max[half], score);
    });
#pragma unroll
    for (int half = 0; half < 2; ++half) factor[half] = softmax[half].update_max(reduce_quad(tile_max[half], Max{}));
    scores.for_each([&](float& score, int half, int) {
      score = softmax[half].weight(score);
      total[half] += score;
    });
#pragma unroll
    for (int half = 0; half < 2; ++half) softmax[half].sum += reduce_quad(total[half], Plus{});
    out.for_each([&](float& sum, int half, int) { sum *= factor[half]; });
    cp_async_wait<1>();
    __syncthreads();
    out.mma_nn(scores, v);
    __syncthreads();  // all threads have read the values
    cp_async_rows(v, op.v_SGK, s0 + kRows);
  }

  const float inverse_sum[2] = {softmax[0].inverse_sum(), softmax[1].inverse_sum()};
  out.for_each([&](float& sum, int half, int col) {
    const int row = warp_row + row_of_half(half);
    if (row < count && col < K)
      op.out_NHK.row<Bf16>(params.query_row(b, t0 + row))[q_col + col] = cast_to<Bf16>(sum * inverse_sum[half]);
  });
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = warp_row + row_of_half(half);
    if (row < count && threadIdx.x % 4 == 0) op.lse_NH.row(params.query_row(b, t0 + row))[h] = softmax[half].lse();
  }
}

}  // namespace

void attention(Stream& stream, const Attention& op) {
  check(op);
  const AttentionParams params(op.shape);
  const cudaStream_t queue = cuda_stream_of(stream).stream();
  const bool is_bf16 = op.q_NHK.dtype == DType::kBf16;
  const int rows = is_bf16 ? bf16::kRows : f32::kRows, tiles = (params.queries + rows - 1) / rows;
  dispatch_head_width(params.head_width, [&]<int kWidth>(Width<kWidth>) {
    const LaunchConfig config{.name = "attention",
                              .blocks = std::int64_t{params.sequences} * params.heads * tiles,
                              .threads = is_bf16 ? bf16::kThreads : f32::kThreads};
    if (is_bf16) return launch(config, attend_bf16<kWidth>, queue, op, params, tiles);
    launch(config, attend_f32<kWidth>, queue, op, params, tiles);
  });
}

}  // namespace slipway::cuda
