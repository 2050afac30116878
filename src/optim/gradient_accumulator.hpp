// Accumulates the gradients of a step in one fixed order, whatever the number of data ranks.
#pragma once

#include <utility>
#include <vector>

#include "comm/mesh.hpp"
#include "kernels/backend/backend.hpp"
#include "src/model/parameters.hpp"
#include "src/optim/arena_shards.hpp"

namespace slipway {

/// Adds up the slots of a step as a binary tree: s with s^1, then s^2, then s^4; first those of this rank, then across
/// ranks by recursive halving. The bits do not depend on where the tree is cut between ranks.
///
/// Cost     holds up to log2(slots on this rank) partial gradients in addition to the one being accumulated.
class GradientAccumulator {
 public:
  /// `slots`: how many a step has on this rank, a power of two.
  GradientAccumulator(Parameters& parameters, const Backend& backend, int slots)
      : parameters_(parameters), backend_(backend), slots_(slots) {}

  /// A slot is complete: adds up what the tree can add on this rank. The parameters' gradients are zero afterwards.
  void finish_slot();

  /// The sum of this rank's slots over the trainable arena, before the reduction over ranks.
  std::span<float> local_sum();

  /// `*found`, in device memory, becomes the index of the first element of local_sum() that is not finite; -1: none.
  void check_finite(std::int64_t* found);

  /// Returns the gradient summed over ranks, over the trainable arena's length, valid where this rank owns it.
  /// Ranks    collective over the mesh.
  std::span<float> reduce_scatter(Mesh& mesh, const ArenaShards& shards);

  /// Zeroes the gradients for the next step; call when the reduced gradient is no longer needed.
  void zero();

 private:
  struct Partial {
    int level = 0;  ///< a sum of 2^level slots
    Buffer<float> sum;
  };
  Parameters& parameters_;
  const Backend& backend_;
  int slots_;
  int finished_ = 0;
  Stream stream_ = backend_.main_stream();
  std::vector<Partial> partials_;
  std::vector<Buffer<float>> spare_;
};

}  // namespace slipway
