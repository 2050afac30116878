// Teams of GPU threads (kernels/team.hpp). Sums have a fixed order: each thread adds its own elements in order, then
// the threads of a warp are reduced in a tree, then the warps in order.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/team.hpp"

namespace slipway::cuda {

inline constexpr int kWarpSize = 32;
inline constexpr unsigned kFullWarpMask = 0xffffffffu;

/// The value of the thread whose index differs from this thread's in `bits`, among the threads of `mask`.
template <class T>
__device__ __forceinline__ T shfl_xor(unsigned mask, T value, int bits) {
  return __shfl_xor_sync(mask, value, bits);
}
__device__ __forceinline__ SumPair shfl_xor(unsigned mask, SumPair value, int bits) {
  return {shfl_xor(mask, value.first, bits), shfl_xor(mask, value.second, bits)};
}

/// Reduces `value` with `join(a, b)` over the threads of `mask`: kCount threads of a warp from a multiple of kCount on.
/// All get the same bits, since both branches of the tree commute.
template <int kCount, class T, class Join>
__device__ __forceinline__ T reduce_lanes(unsigned mask, T value, const Join& join) {
  for (int bits = kCount / 2; bits > 0; bits /= 2) value = join(value, shfl_xor(mask, value, bits));
  return value;
}

/// The same over all threads of the warp.
template <class T, class Join>
__device__ __forceinline__ T reduce_warp(T value, const Join& join) {
  return reduce_lanes<kWarpSize>(kFullWarpMask, value, join);
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
  static constexpr int kLanes = kCount;
  __device__ int lane() const { return static_cast<int>(threadIdx.x) % kCount; }

  template <class T, class Join>
  __device__ T reduce(T value, const Join& join) const {
    constexpr unsigned kTileMask = kFullWarpMask >> (kWarpSize - kCount);
    const int first = static_cast<int>(threadIdx.x) % kWarpSize / kCount * kCount;
    return reduce_lanes<kCount>(kTileMask << first, value, join);
  }
};

/// All threads of a block, a multiple of a warp.
template <int kCount>
struct BlockTeam {
  static constexpr int kLanes = kCount;
  __device__ int lane() const { return static_cast<int>(threadIdx.x); }

  template <class T, class Join>
  __device__ T reduce(T value, const Join& join) const {
    constexpr int kWarps = kCount / kWarpSize;
    SLIPWAY_SHARED(T, warp_sums, kWarps);
    value = reduce_warp(value, join);
    __syncthreads();  // the values of the previous reduction have been read
    if (lane() % kWarpSize == 0) warp_sums[lane() / kWarpSize] = value;
    __syncthreads();
    value = warp_sums[0];
    for (int warp = 1; warp < kWarps; ++warp) value = join(value, warp_sums[warp]);
    return value;
  }
};

/// The Team interface (kernels/team.hpp) on top of `Lanes`, which has lane() and reduce(). A thread processes eight
/// columns at a time, with 16-byte accesses where all rows are so aligned; the mapping of columns to threads does not
/// depend on the alignment.
template <class Lanes>
struct TeamOf : Lanes {
  template <class Functor, class... Rows>
  __device__ auto sum(int count, const Functor& formula, Rows... rows) const {
    decltype(apply_at(formula, 0, *static_cast<ComputeTypeOf<Rows>*>(nullptr)...)) total{};
    const auto add = [&](int i, auto&... values) { total = Plus{}(total, apply_at(formula, i, values...)); };
    for_each_column(count, add, rows...);
    return this->reduce(total, Plus{});
  }
  template <class Functor, class... Rows>
  __device__ float max(int count, const Functor& formula, Rows... rows) const {
    float best = -__builtin_inff();
    const auto keep = [&](int i, auto&... values) { best = Max{}(best, apply_at(formula, i, values...)); };
    for_each_column(count, keep, rows...);
    return this->reduce(best, Max{});
  }
  template <class Functor, class... Rows>
  __device__ void each(int count, const Functor& formula, Rows... rows) const {
    for_each_column(
        count, [&](int i, auto&... values) { apply_at(formula, i, values...); }, rows...);
  }

 private:
  /// `fn(i, values...)` for this thread's columns.
  template <class Fn, class... Rows>
  __device__ void for_each_column(int count, const Fn& fn, Rows... rows) const {
    const bool vectorized = (is_pack_aligned(rows) && ...);
    for (int first = this->lane() * kPack; first < count; first += Lanes::kLanes * kPack) {
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
