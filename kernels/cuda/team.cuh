// Teams of lanes on a GPU (kernels/team.hpp). Every sum has one order: each lane adds its own elements in turn, then
// the lanes of a warp join in a tree, then the warps one after the other.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/team.hpp"

namespace slipway::cuda {

inline constexpr int kWarpLanes = 32;
inline constexpr unsigned kWholeWarp = 0xffffffffu;

/// `join(a, b)` over all lanes of the warp, the same bits on each: a tree whose two branches commute.
template <class T, class Join>
__device__ __forceinline__ T join_warp(T value, const Join& join) {
  for (int bits = kWarpLanes / 2; bits > 0; bits /= 2) value = join(value, __shfl_xor_sync(kWholeWarp, value, bits));
  return value;
}

struct Plus {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Larger {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return b > a ? b : a;
  }
};

/// The lanes of one warp.
struct WarpTeam {
  static constexpr int kLanes = kWarpLanes;
  __device__ int lane() const { return static_cast<int>(threadIdx.x) % kWarpLanes; }

  template <class T, class Join>
  __device__ T joined(T value, const Join& join) const {
    return join_warp(value, join);
  }
};

/// All lanes of a block, a multiple of a warp.
template <int kCount>
struct BlockTeam {
  static constexpr int kLanes = kCount;
  __device__ int lane() const { return static_cast<int>(threadIdx.x); }

  template <class T, class Join>
  __device__ T joined(T value, const Join& join) const {
    constexpr int kWarps = kCount / kWarpLanes;
    SLIPWAY_SHARED(T, of_warps, kWarps);
    value = join_warp(value, join);
    __syncthreads();  // the numbers of the join before this one have been read
    if (lane() % kWarpLanes == 0) of_warps[lane() / kWarpLanes] = value;
    __syncthreads();
    value = of_warps[0];
    for (int warp = 1; warp < kWarps; ++warp) value = join(value, of_warps[warp]);
    return value;
  }
};

/// What formulas ask of a team (kernels/team.hpp), on top of how its lanes join.
template <class Lanes>
struct TeamOf : Lanes {
  template <class Value>
  __device__ float sum(int count, const Value& value) const {
    float total = 0.0f;
    for (int i = this->lane(); i < count; i += Lanes::kLanes) total += value(i);
    return this->joined(total, Plus{});
  }
  template <class Value>
  __device__ float max(int count, const Value& value) const {
    float best = -__builtin_inff();
    for (int i = this->lane(); i < count; i += Lanes::kLanes) best = Larger{}(best, static_cast<float>(value(i)));
    return this->joined(best, Larger{});
  }
  template <class Act>
  __device__ void each(int count, const Act& act) const {
    for (int i = this->lane(); i < count; i += Lanes::kLanes) act(i);
  }
};

}  // namespace slipway::cuda
