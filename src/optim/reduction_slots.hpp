// Reduction slots: which rank computes which part of a step, and the one order in which the parts are summed.
#pragma once

#include <cstdint>
#include <span>

namespace slipway {

/// A step has M micro-batches in S = min(slots, largest power of two that divides M) slots. Micro-batch i belongs to
/// slot floor(i S / M); a data rank owns an aligned block of slots; a binary tree sums s with s^1, then s^2, then s^4.
struct ReductionSlots {
  int micro_batches = 1;  ///< M, over all ranks
  int slots = 1;          ///< S
  int ranks = 1;          ///< R data ranks

  int slots_per_rank() const { return slots / ranks; }
  int micro_batches_per_slot() const { return micro_batches / slots; }
  int first_slot(int rank) const { return rank * slots_per_rank(); }

  /// Errors   Fault::kConfig with the nearest values that work.
  static ReductionSlots make(int batch, int micro_batch, int slots, int ranks);
  static int default_micro_batch(int batch, int slots);
};

/// Sums one value per micro-batch in the order of the gradients: micro-batches of a slot in sequence, slots in the
/// binary tree.
double reduce_slots(std::span<const double> per_micro_batch, int slots);

}  // namespace slipway
