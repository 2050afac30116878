// The shuffled order of a source's documents, or of its sequences.
#pragma once

#include <cstdint>

namespace slipway {

/// Which of `count` items comes at position i of an epoch: a permutation that follows from (seed, epoch) alone, so that
/// it needs no memory, and ranks and restarts agree on it without communication.
///
/// Cost     at() is O(1).
/// Source   docs/adr/0007-order-as-a-pure-function.md
class ShuffledOrder {
 public:
  /// `name` keeps two orders of one seed apart, as in stream_of(): "data.order".
  /// Errors   Fault::kBug for a negative count.
  ShuffledOrder(std::int64_t count, std::uint64_t seed, const char* name);

  std::int64_t count() const { return static_cast<std::int64_t>(count_); }
  /// The item at `position` of `epoch`. Shapes: position and result in [0, count). Errors: Fault::kBug outside it.
  std::int64_t at(std::uint64_t epoch, std::int64_t position) const;

 private:
  std::uint64_t count_, seed_, stream_;
};

}  // namespace slipway
