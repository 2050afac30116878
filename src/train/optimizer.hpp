// AdamW with its state divided over data ranks (ZeRO-1).
#pragma once

#include "comm/group.hpp"
#include "io/checkpoint_slice.hpp"
#include "kernels/table.hpp"
#include "src/model/parameters.hpp"
#include "src/train/config.hpp"

namespace slipway {

/// Moves the part of the arena that this data rank owns, then gathers the weights of all.
///
/// Source   Rajbhandari et al., "ZeRO", 2020, stage 1; ownership as Group::owned_range.
class Optimizer {
 public:
  Optimizer(const OptimConfig& config, Parameters& parameters, const KernelTable& kernels, Group& data);

  /// L2 norm of the whole gradient: sums of squares over `slots` fixed chunks of the arena, chunk by chunk, so that it
  /// is the same on any number of data ranks. Collective over both groups.
  double norm(std::span<const float> gradients, Group& tensor);

  /// Step number `step` (from 0) with `gradients * grad_scale`. Collective over the data group.
  void step(std::span<const float> gradients, std::int64_t step, double lr, double grad_scale);

  Group::Range owned() const { return owned_; }
  std::span<float> first_moments() { return m_.span(); }  ///< of the owned range
  std::span<float> second_moments() { return v_.span(); }

 private:
  OptimConfig config_;
  Parameters& parameters_;
  const KernelTable& kernels_;
  Group& data_;
  Stream stream_;
  Group::Range owned_;
  Buffer<float> m_, v_;
};

}  // namespace slipway
