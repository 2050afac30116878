// Which ranges of the parameters' arena belong to each data rank (ZeRO).
#pragma once

#include <span>
#include <vector>

#include "comm/group.hpp"
#include "src/model/parameters.hpp"

namespace slipway {

/// The arena sharded over data ranks. Its trainable part is divided into buckets, each of which is reduced and gathered
/// in one collective. Each rank owns one shard of every bucket: it has the reduced gradient, the moments and the newest
/// weights of its shards. Each rank also owns a shard of the frozen part, which it writes into checkpoints.
///
/// Currently there is one bucket. Shard bounds are bounds of the gradient norm's chunks, so that the norm's bits do not
/// depend on the buckets.
class ArenaShards {
 public:
  ArenaShards(const Parameters& parameters, int data_parallel_size);

  /// The ranges of the trainable arena, in order.
  std::span<const Group::Range> buckets() const { return buckets_; }
  /// The ranges that a rank owns, one in each bucket, in the arena's order.
  std::vector<Group::Range> trainable(int data_rank) const;
  Group::Range frozen(int data_rank) const;

 private:
  int data_parallel_size_;
  std::vector<Group::Range> buckets_;
  Group::Range frozen_;
};

}  // namespace slipway
