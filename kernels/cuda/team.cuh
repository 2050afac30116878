// Teams of GPU threads (kernels/team.hpp). Sums have a fixed order: each thread adds its own elements in order, then
// the threads of a warp are reduced in a tree, then the warps in order.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/team.hpp"

namespace slipway::cuda {

inline constexpr int kWarpSize = 32;
inline constexpr unsigned kFullWarpMask = 0xffffffffu;

/// The value of the thread whose index differs from this thread's in `lane_mask`, among the threads of `mask`.
template <class T>
__device__ __forceinline__ T shfl_xor(unsigned mask, T value, int lane_mask) {
  return __shfl_xor_sync(mask, value, lane_mask);
}
__device__ __forceinline__ SumPair shfl_xor(unsigned mask, SumPair value, int lane_mask) {
  return {shfl_xor(mask, value.first, lane_mask), shfl_xor(mask, value.second, lane_mask)};
}

/// Reduces `value` with `reduce_op(a, b)` over the threads of `mask`: kCount threads of a warp from a multiple of
/// kCount on. All get the same bits, since both branches of the tree commute.
template <int kCount, class T, class ReduceOp>
__device__ __forceinline__ T reduce_tile(unsigned mask, T value, const ReduceOp& reduce_op) {
  for (int lane_mask = kCount / 2; lane_mask > 0; lane_mask /= 2)
    value = reduce_op(value, shfl_xor(mask, value, lane_mask));
  return value;
}

/// The same over all threads of the warp.
template <class T, class ReduceOp>
__device__ __forceinline__ T reduce_warp(T value, const ReduceOp& reduce_op) {
  return reduce_tile<kWarpSize>(kFullWarpMask, value, reduce_op);
}

struct Plus {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
  __device__ SumPair operator()(SumPair a, SumPair b) const { return {a.first + b.first, a.second + b.second}; }
};
struct Max {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return b > a ? b : a;
  }
};

/// The threads of a warp, or kCount of them, a power of two.
template <int kCount>
struct TileTeam {
  static constexpr int kTeamSize = kCount;
  __device__ int team_rank() const { return static_cast<int>(threadIdx.x) % kCount; }

  template <class T, class ReduceOp>
  __device__ T reduce(T value, const ReduceOp& reduce_op) const {
    constexpr unsigned kTileMask = kFullWarpMask >> (kWarpSize - kCount);
    const int first = static_cast<int>(threadIdx.x) % kWarpSize / kCount * kCount;
    return reduce_tile<kCount>(kTileMask << first, value, reduce_op);
  }
};

/// All threads of a block, a multiple of a warp.
template <int kCount>
struct BlockTeam {
  static constexpr int kTeamSize = kCount;
  __device__ int team_rank() const { return static_cast<int>(threadIdx.x); }

  template <class T, class ReduceOp>
  __device__ T reduce(T value, const ReduceOp& reduce_op) const {
    constexpr int kWarps = kCount / kWarpSize;
    SLIPWAY_SHARED(T, warp_sums, kWarps);
    value = reduce_warp(value, reduce_op);
    __syncthreads();  // the values of the previous reduction have been read
    if (team_rank() % kWarpSize == 0) warp_sums[team_rank() / kWarpSize] = value;
    __syncthreads();
    value = warp_sums[0];
    for (int warp = 1; warp < kWarps; ++warp) value = reduce_op(value, warp_sums[warp]);
    return value;
  }
};

/// The Team interface (kernels/team.hpp) on top of `Threads`, which has team_rank() and reduce(). A thread processes
/// eight columns at a time, with 16-byte accesses where all rows are so aligned; the mapping of columns to threads does
/// not depend on the alignment.
template <class Threads>
struct VectorizedTeam : Threads {
  template <class Functor, class... Rows>
  __device__ auto sum(int count, const Functor& functor, Rows... rows) const {
    decltype(apply_at(functor, 0, *static_cast<ComputeTypeOf<Rows>*>(nullptr)...)) total{};
    const auto add = [&](int i, auto&... values) { total = Plus{}(total, apply_at(functor, i, values...)); };
    for_each_column(count, add, rows...);
    return this->reduce(total, Plus{});
  }
  template <class Functor, class... Rows>
  __device__ float max(int count, const Functor& functor, Rows... rows) const {
    float best = -__builtin_inff();
    const auto update_max = [&](int i, auto&... values) { best = Max{}(best, apply_at(functor, i, values...)); };
    for_each_column(count, update_max, rows...);
    return this->reduce(best, Max{});
  }
  template <class Functor, class... Rows>
  __device__ void for_each(int count, const Functor& functor, Rows... rows) const {
    for_each_column(
        count, [&](int i, auto&... values) { apply_at(functor, i, values...); }, rows...);
  }

 private:
  /// `fn(i, values...)` for this thread's columns.
  template <class Fn, class... Rows>
  __device__ void for_each_column(int count, const Fn& fn, Rows... rows) const {
    const bool vectorized = (is_pack_aligned(rows) && ...);
    for (int first = this->team_rank() * kPack; first < count; first += Threads::kTeamSize * kPack) {
      if (vectorized && first + kPack <= count) apply_to_pack(first, fn, Pack<Rows>(rows, first)...);
      else
        for (int i = first; i < count && i < first + kPack; ++i) fn(i, ElementRef<Rows>(rows, i).element()...);
    }
  }
  template <class Fn, class... Packs>
  __device__ static void apply_to_pack(int first, const Fn& fn, Packs&&... packs) {
#pragma unroll
    for (int k = 0; k < kPack; ++k) fn(first + k, packs.element(k)...);
  }
};

}  // namespace slipway::cuda
