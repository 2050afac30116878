// What comes once a step, after its micro-batches: joined gradients, their norm, the optimizer.
#pragma once

#include "comm/world.hpp"
#include "src/train/config.hpp"
#include "src/train/findings.hpp"
#include "src/train/gradient_tree.hpp"
#include "src/train/optimizer.hpp"
#include "src/train/slots.hpp"

namespace slipway {

/// The end of a step in its parts, in this order: nats() while micro-batches run, close_slot() after each slot's,
/// find_bad(), join(), move(), and some time later report(). Only report() waits for a device, so that the next step
/// can be queued before this one has been measured: a step that is not finite moves no weights, and none after it does.
///
/// Ranks    join, move are collective over both groups of the mesh.
class Update {
 public:
  /// All but the config, of which nothing is kept, must outlive it.
  Update(const RunConfig& config, Parameters& parameters, const KernelTable& kernels, Mesh& mesh,
         const SlotPlan& slots);

  /// Where micro-batch i of this rank's leaves its sum of nats.
  double* nats(int i) { return my_nats_.data() + i; }
  void close_slot() { gradients_.close_slot(); }
  /// This rank's gradient, before any other rank has a part in it.
  std::span<float> local() { return gradients_.local(); }
  void find_bad() { gradients_.find_bad(findings_.first_bad()); }
  void join();
  /// Optimizer step number `step`, from 0.
  void move(std::int64_t step, double lr);
  /// Of the earliest step that was moved and not reported.
  Found report() { return findings_.read(); }
  /// Steps that were moved and not reported are forgotten.
  void reset() { findings_.reset(); }

  Optimizer& optimizer() { return optimizer_; }

 private:
  void find_factor();

  const KernelTable& kernels_;
  Mesh& mesh_;
  double max_norm_;
  int slots_;  // of the arena, which the canonical norm follows
  Stream stream_;
  GradientTree gradients_;
  Optimizer optimizer_;
  Findings findings_;
  Buffer<double> my_nats_;
  Buffer<double> squares_, squares_of_data_, squares_of_all_;  // [slots, 2], of data ranks, of all
  std::span<float> joined_;
};

}  // namespace slipway
