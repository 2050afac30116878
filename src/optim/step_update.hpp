// The second half of an optimizer step: gradient reduction over ranks, clipping, weight update.
#pragma once

#include "comm/mesh.hpp"
#include "src/optim/gradient_accumulator.hpp"
#include "src/optim/optimizer.hpp"
#include "src/optim/reduction_slots.hpp"
#include "src/optim/step_stats.hpp"

namespace slipway {

/// Accumulates, reduces and clips the gradients of a step, and updates the weights. Call, in this order: loss_sum() for
/// each micro-batch, finish_slot() after the last one of each slot, check_finite(), reduce_gradients(), apply(), and
/// some time later report().
///
/// Only report() waits for the device, so that the next step can be queued before this one's statistics are known. A
/// step that is not finite updates no weights, and neither does any step queued after it.
///
/// Ranks    reduce_gradients() and apply() are collective over both groups of the mesh.
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
  /// Optimizer step number `step`, from 0: clips, updates this rank's shard, all-gathers the weights, zeroes the
  /// gradients.
  void apply(std::int64_t step, double lr);
  /// Statistics of the earliest step that was applied and not yet reported.
  StepStatsView report() { return stats_.read(); }
  /// Discards the statistics of steps that were applied and not yet reported.
  void reset() { stats_.reset(); }

  Optimizer& optimizer() { return optimizer_; }
  const ArenaShards& shards() const { return shards_; }

 private:
  void compute_clip_scale();

  const Backend& backend_;
  Mesh& mesh_;
  double max_norm_;
  int slots_;  // chunks of the arena whose sums of squares the canonical norm adds up
  Stream stream_;
  ArenaShards shards_;
  GradientAccumulator gradients_;
  Optimizer optimizer_;
  StepStats stats_;
  Buffer<double> local_loss_sums_;
  Buffer<double> squares_, squares_of_data_, squares_of_all_;  // [slots, 2]: local, of all data ranks, of all ranks
  std::span<float> reduced_;  // the trainable arena's length; valid where this rank owns it
};

}  // namespace slipway
