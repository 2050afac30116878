// Which ranges of the parameters' arena belong to each data rank (ZeRO).
#pragma once

#include <span>
#include <vector>

#include "comm/group.hpp"
#include "src/model/parameters.hpp"

namespace slipway {

/// The arena over data ranks. Its trainable part is cut into buckets, each of which is reduced and gathered at once and
/// of which each rank owns one shard: the rank has the gradient, the moments and the newest weights of its shards. Of
/// what is frozen, each rank owns a shard to write into checkpoints.
///
/// One bucket holds everything today. Bounds are those of the gradient norm's chunks, so that its bits do not depend on
/// the buckets.
class ArenaShards {
 public:
  ArenaShards(const Parameters& parameters, int data_ranks);

  /// The trainable arena, in order.
  std::span<const Group::Range> buckets() const { return buckets_; }
  /// What a rank owns, a range in each bucket, in the arena's order.
  std::vector<Group::Range> trainable(int data_rank) const;
  Group::Range frozen(int data_rank) const;

 private:
  int data_ranks_;
  std::vector<Group::Range> buckets_;
  Group::Range frozen_;
};

}  // namespace slipway
