// The second half of an optimizer step: gradient reduction over ranks, clipping, weight update.
#pragma once

#include "comm/mesh.hpp"
#include "src/optim/gradient_accumulator.hpp"
#include "src/optim/optimizer.hpp"
#include "src/optim/reduction_slots.hpp"
#include "src/optim/step_stats.hpp"

namespace slipway {

/// The second half of an optimizer step. Calls, in this order: loss_sum() for each micro-batch, finish_slot() after
/// each slot's last one, check_finite(), reduce_gradients(), clip(), step(), all_gather_weights(), zero_gradients(),
/// copy_stats_to_host_async(), or for the last five apply(), and some time later report().
///
/// Only report() waits for the device, so that the next step can be queued before this one's statistics are known. A
/// step that is not finite updates no weights, and neither does any step queued after it.
///
/// Ranks    reduce_gradients, clip, step are collective over both groups of the mesh, all_gather_weights over the data
///          group.
class StepUpdate {
 public:
  /// All arguments but the config must outlive this object. `offload`: the moments stay in host memory.
  StepUpdate(const OptimConfig& config, Parameters& parameters, const Backend& backend, Mesh& mesh,
             const ReductionSlots& slots, bool offload);

  /// Where the forward pass of this rank's micro-batch i writes its sum of losses, in nats.
  double* loss_sum(int i) { return local_loss_sums_.data() + i; }
  void finish_slot() { gradients_.finish_slot(); }
  /// This rank's accumulated gradient, before the reduction over ranks.
  std::span<float> local_gradients() { return gradients_.local_sum(); }
  /// Records the first element of the local gradient that is not finite.
  void check_finite() { gradients_.check_finite(stats_.first_non_finite()); }
  void reduce_gradients();
  /// Computes, in device memory, the factor that brings the gradient's global L2 norm down to the limit; NaN where the
  /// loss or the norm is not finite.
  void clip();
  /// Optimizer step number `step`, from 0: updates this rank's shard with the clipped gradient.
  void step(std::int64_t step, double lr);
  void all_gather_weights() { optimizer_.all_gather_weights(); }
  void zero_gradients() { gradients_.zero(); }
  void copy_stats_to_host_async() { stats_.copy_to_host_async(); }
  /// All of these, from clip() on: for who measures or lists what a step costs.
  void apply(std::int64_t step, double lr);
  /// Statistics of the earliest step that was applied and not yet reported.
  StepStatsView report() { return stats_.read(); }
  /// Discards the statistics of steps that were applied and not yet reported.
  void reset() { stats_.reset(); }

  Optimizer& optimizer() { return optimizer_; }
  const ArenaShards& shards() const { return shards_; }

 private:
  const Backend& backend_;
  Mesh& mesh_;
  double max_norm_;
  int slots_;  // chunks of the arena whose sums of squares the canonical norm adds up
  Stream stream_ = backend_.main_stream();
  ArenaShards shards_;
  GradientAccumulator gradients_;
  Optimizer optimizer_;
  StepStats stats_;
  Buffer<double> local_loss_sums_;
  Buffer<double> squares_, data_group_squares_, world_squares_;  // [slots, 2]: local, of all data ranks, of all ranks
  std::span<float> reduced_gradient_;  // the trainable arena's length; valid where this rank owns it
};

}  // namespace slipway
