// Attention in f32, without tensor cores: a warp computes one row at a time against tiles of 32 rows of the other
// operand ("others"), one per thread; the columns of the result are distributed over its threads.
#pragma once

#include "kernels/body/exp.hpp"
#include "kernels/cuda/attention_indexing.cuh"
#include "kernels/cuda/team.cuh"

namespace slipway::cuda::f32 {

inline constexpr int kTileRows = 32;  // rows of a tile
inline constexpr int kRows = 16;      // rows that a block computes
inline constexpr int kWarps = 4;
inline constexpr int kThreads = kWarps * kWarpSize;
inline constexpr int kBlocks = 4;  // resident blocks per SM, at least; without the bound ptxas aims at more, and spills
inline constexpr int kRowsPerWarp = kRows / kWarps;  // rows that a warp computes

/// A tile of others in shared memory. Rows are padded to an odd stride, so that 32 threads that read one row each
/// access 32 banks.
template <int kWidth>
struct PaddedTile {
  static constexpr int kStride = kWidth + 1;
  float* rows;
  __device__ float* row(int r) const { return rows + r * kStride; }
};

/// Copies `count` rows of K columns into `tile`, which has `capacity` rows; the rest is zeroed.
__device__ inline void load_rows(float* tile, int tile_stride, int capacity, const float* from, std::int64_t stride,
                                 int count, int K) {
  for (int i = static_cast<int>(threadIdx.x); i < capacity * K; i += kThreads) {
    const int r = i / K, d = i % K;
    tile[r * tile_stride + d] = r < count ? from[r * stride + d] : 0.0f;
  }
}

__device__ inline float dot(const float* a, const float* b, int K) {
  float sum = 0.0f;
  for (int d = 0; d < K; ++d) sum = body::fmadd(a[d], b[d], sum);
  return sum;
}

/// One thread's columns of a row's accumulators: lane, lane + 32, and so on.
template <int kWidth>
struct Columns {
  static constexpr int kCount = (kWidth + kWarpSize - 1) / kWarpSize;
  float value[kCount] = {};

  /// `value += sum over others of weight(other) * row(other)`; each thread passes the weight of one other, which the
  /// warp shares through `weights`, kTileRows elements of shared memory.
  __device__ void add(float weight, float* weights, const PaddedTile<kWidth>& tile, int K) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    __syncwarp();  // the previous weights have been read
    weights[lane] = weight;
    __syncwarp();
    for (int other = 0; other < kTileRows; ++other) {
      const float w = weights[other];
      if (w == 0.0f) continue;  // a masked row may be NaN
#pragma unroll
      for (int i = 0; i < kCount; ++i)
        if (const int d = lane + i * kWarpSize; d < K) value[i] = body::fmadd(w, tile.row(other)[d], value[i]);
    }
  }
  __device__ void scale(float factor) {
#pragma unroll
    for (float& column : value) column *= factor;
  }
  __device__ void write(float* row, int K) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      if (const int d = lane + i * kWarpSize; d < K) row[d] = value[i];
  }
};

}  // namespace slipway::cuda::f32
