// Accumulates the gradients of a step in one fixed order, whatever the number of data ranks.
#pragma once

#include <utility>
#include <vector>

#include "comm/mesh.hpp"
#include "kernels/backend/backend.hpp"
#include "src/model/parameters.hpp"
#include "src/optim/arena_shards.hpp"

namespace slipway {

/// Sums the slots of a step as a binary tree: s with s^1, then s^2, then s^4; first those of this rank, then across
/// ranks by recursive halving. The bits do not depend on how the tree is divided between ranks.
///
/// Cost     memory for up to log2(slots on this rank) partial gradients in addition to the one being accumulated.
class GradientAccumulator {
 public:
  /// `slots`: slots of a step on this rank, a power of two.
  GradientAccumulator(Parameters& parameters, const Backend& backend, int slots)
      : parameters_(parameters), backend_(backend), slots_(slots) {}

  /// Call when a slot is complete: sums the subtrees that are complete on this rank, and zeroes the parameters'
  /// gradients.
  void finish_slot();

  /// The sum of this rank's slots over the trainable arena, before the reduction over ranks.
  std::span<float> local_sum();

  /// Writes the index of the first non-finite element of local_sum(), or -1, to `*first_index` in device memory.
  void check_finite(std::int64_t* first_index);

  /// Returns the gradient summed over ranks, as long as the trainable arena, valid in the ranges that this rank owns.
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
  int finished_slots_ = 0;
  Stream stream_ = backend_.main_stream();
  std::vector<Partial> partials_;
  std::vector<Buffer<float>> free_buffers_;
};

}  // namespace slipway
