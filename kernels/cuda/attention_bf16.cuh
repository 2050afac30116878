// Attention in bf16 on tensor cores: a block computes 64 rows, a warp 16 of them, against tiles of the other operand's
// rows in shared memory ("others": keys for a block of queries, queries for a block of keys).
#pragma once

#include "kernels/body/exp.hpp"
#include "kernels/cuda/async_copy.cuh"
#include "kernels/cuda/attention_indexing.cuh"
#include "kernels/cuda/team.cuh"
#include "kernels/cuda/tensor_core.cuh"

namespace slipway::cuda::bf16 {

inline constexpr int kRows = 64;
inline constexpr int kWarps = 4;
/// Rows of a tile of others in the backward pass, which is double-buffered.
template <int kWidth>
inline constexpr int kGradTileRows = kWidth > 64 ? 32 : 64;
/// Others whose scores the backward pass holds in registers at once.
template <int kWidth>
inline constexpr int kSubTileRows = kWidth > 64 ? 16 : 32;
inline constexpr int kThreads = kWarps * kWarpSize;
/// Resident blocks per SM, at least: leaves a thread 255 registers; without the bound ptxas spills.
inline constexpr int kBlocks = 2;

/// A tile of rows in shared memory, of `kWidth` columns; those beyond the head's width are 0. Rows are padded by 16
/// bytes, so that eight of them begin in different banks.
template <int kWidth>
struct RowTile {
  static constexpr int kStride = kWidth + 8;
  Bf16* rows;
  __device__ Bf16* row(int r) const { return rows + r * kStride; }

  /// Starts an asynchronous copy of `count` rows of K columns; the rest of `capacity` rows is zeroed. The rows can be
  /// read after cp_async_commit(), cp_async_wait() and a barrier.
  __device__ void cp_async_rows(int capacity, const Bf16* from, std::int64_t stride, int count, int K) const {
    const bool aligned = K % 8 == 0 && stride % 8 == 0 && reinterpret_cast<std::uintptr_t>(from) % 16 == 0;
    constexpr int kPacks = kWidth / 8;  // of 16 bytes
    for (int i = static_cast<int>(threadIdx.x); i < capacity * kPacks; i += kThreads) {
      const int r = i / kPacks, d = i % kPacks * 8;
      if (aligned) {
        const bool is_valid = r < count && d < K;
        cp_async<16>(row(r) + d, is_valid ? from + r * stride + d : from, is_valid);
        continue;
      }
      std::uint32_t words[4] = {};
      if (r < count) {
#pragma unroll
        for (int j = 0; j < 8; ++j)
          if (d + j < K) words[j / 2] |= static_cast<std::uint32_t>(from[r * stride + d + j].bits) << (j % 2 * 16);
      }
      *reinterpret_cast<uint4*>(row(r) + d) = {words[0], words[1], words[2], words[3]};
    }
  }
};

/// Waits until all pending copies are visible to all threads of the block.
__device__ inline void finish_copies() {
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
}

/// A warp's 16 rows as the left operand of mma, for all steps of 16 columns.
template <int kWidth>
struct FragmentA {
  static constexpr int kSteps = kWidth / 16;
  std::uint32_t pairs[kSteps][4];
  __device__ void load(const RowTile<kWidth>& tile, int first_row) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
    for (int step = 0; step < kSteps; ++step)
      ldmatrix_x4(pairs[step], tile.row(first_row + lane % 16) + 16 * step + lane / 16 * 8);
  }
};

/// A warp's accumulators for 16 x kCols results: kCols / 8 tiles of mma.
template <int kCols>
struct Accumulators {
  static constexpr int kTiles = kCols / 8;
  float tile[kTiles][4] = {};

  /// `+= left right^T`, where the rows of `right` from `first` on are the columns of the result.
  template <int kWidth>
  __device__ void mma_nt(const FragmentA<kWidth>& left, const RowTile<kWidth>& right, int first) {
#pragma unroll
    for (int step = 0; step < FragmentA<kWidth>::kSteps; ++step) mma_nt(left.pairs[step], right, first, step);
  }
  /// One step of it: 16 columns of both operands.
  template <int kWidth>
  __device__ void mma_nt(const std::uint32_t (&left)[4], const RowTile<kWidth>& right, int first, int step) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
    for (int j = 0; j < kTiles; j += 2) {
      std::uint32_t pairs[4];
      ldmatrix_x4(pairs, right.row(first + 8 * (j + lane / 16) + lane % 8) + 16 * step + lane / 8 % 2 * 8);
      mma_m16n8k16(tile[j], left, pairs[0], pairs[1]);
      mma_m16n8k16(tile[j + 1], left, pairs[2], pairs[3]);
    }
  }
  /// `+= weights right`: `weights` are 16 x kTileRows accumulators, rounded to bf16; `right` is read from row `first`.
  template <int kTileRows>
  __device__ void mma_nn(const Accumulators<kTileRows>& weights, const RowTile<kCols>& right, int first = 0) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
    for (int step = 0; step < kTileRows / 16; ++step) {
      const auto& low = weights.tile[2 * step];  // mma distributes accumulators over threads as it does left operands
      const auto& high = weights.tile[2 * step + 1];
      const std::uint32_t left[4] = {pack_bf16(low[0], low[1]), pack_bf16(low[2], low[3]), pack_bf16(high[0], high[1]),
                                     pack_bf16(high[2], high[3])};
#pragma unroll
      for (int j = 0; j < kTiles; j += 2) {
        std::uint32_t pairs[4];
        ldmatrix_x4_trans(pairs, right.row(first + 16 * step + lane / 8 % 2 * 8 + lane % 8) + 8 * (j + lane / 16));
        mma_m16n8k16(tile[j], left, pairs[0], pairs[1]);
        mma_m16n8k16(tile[j + 1], left, pairs[2], pairs[3]);
      }
    }
  }
  /// `fn(value, half, column)` for each of this thread's accumulators: rows are thread / 4 + 8 * half.
  template <class Fn>
  __device__ void for_each(const Fn& fn) {
    const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int j = 0; j < kTiles; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) fn(tile[j][i], i / 2, 8 * j + 2 * t + i % 2);
  }
  /// The same with the accumulators of `other` at the same positions.
  template <class Fn>
  __device__ void for_each_pair(Accumulators& other, const Fn& fn) {
    const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int j = 0; j < kTiles; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) fn(tile[j][i], other.tile[j][i], i / 2, 8 * j + 2 * t + i % 2);
  }
};

/// The row, of the warp's 16, of this thread's accumulators of half 0 or 1.
__device__ inline int row_of_half(int half) { return static_cast<int>(threadIdx.x) % kWarpSize / 4 + 8 * half; }

/// The maximum, or the sum, over the four threads that share a row.
template <class ReduceOp>
__device__ float reduce_quad(float value, const ReduceOp& reduce_op) {
  value = reduce_op(value, __shfl_xor_sync(kFullWarpMask, value, 1));
  return reduce_op(value, __shfl_xor_sync(kFullWarpMask, value, 2));
}

}  // namespace slipway::cuda::bf16
