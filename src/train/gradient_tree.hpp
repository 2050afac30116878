// Gradients of a step, joined in one order on any number of data ranks.
#pragma once

#include <utility>
#include <vector>

#include "comm/group.hpp"
#include "kernels/table.hpp"
#include "src/model/parameters.hpp"

namespace slipway {

/// Joins the slots of a step as a binary tree: s with s^1, then s^2, then s^4; first what lies on this rank, then
/// across ranks by recursive halving. The bits do not depend on where the tree is cut between ranks.
///
/// Cost     keeps up to log2(slots on this rank) partial gradients beside the one being added to.
class GradientTree {
 public:
  /// `slots`: how many a step has on this rank, a power of two.
  GradientTree(Parameters& parameters, const KernelTable& kernels, int slots)
      : parameters_(parameters), kernels_(kernels), slots_(slots) {}

  /// A slot is complete: joins what the tree can join here. The parameters' gradients are zero afterwards.
  void close_slot();

  /// This rank's joined slots, over the whole arena, before any other rank has a part in it.
  std::span<float> local();

  /// `*found`, in the kernels' memory, becomes the first element of local() that is not finite; -1: none.
  void find_bad(std::int64_t* found);

  /// Joins over ranks. Returns the joined gradient over the whole arena's length, of which only `owned` is valid.
  /// Ranks    collective over both groups.
  std::span<float> join(Group& tensor, Group& data, Group::Range& owned);

  /// Makes ready for the next step; call when the joined gradient is no longer needed.
  void reset();

 private:
  struct Partial {
    int level = 0;  ///< 2^level slots are joined in it
    Buffer<float> sum;
  };
  Parameters& parameters_;
  const KernelTable& kernels_;
  int slots_;
  int closed_ = 0;
  Stream stream_;
  std::vector<Partial> partials_;
  std::vector<Buffer<float>> spare_;
};

}  // namespace slipway
