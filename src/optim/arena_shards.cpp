#include "src/optim/arena_shards.hpp"

namespace slipway {
namespace {

Group::Range shard_of(Group::Range range, int rank, int ranks) {
  const Group::Range shard = Group::shard_range(range.count, rank, ranks);
  return {range.first + shard.first, shard.count};
}

}  // namespace

ArenaShards::ArenaShards(const Parameters& parameters, int data_parallel_size)
    : data_parallel_size_(data_parallel_size),
      buckets_{{0, parameters.trainable_size()}},
      frozen_{parameters.trainable_size(), parameters.values().size() - parameters.trainable_size()} {}

std::vector<Group::Range> ArenaShards::trainable(int data_rank) const {
  std::vector<Group::Range> owned_ranges;
  for (const Group::Range& bucket : buckets_) owned_ranges.push_back(shard_of(bucket, data_rank, data_parallel_size_));
  return owned_ranges;
}

Group::Range ArenaShards::frozen(int data_rank) const { return shard_of(frozen_, data_rank, data_parallel_size_); }

}  // namespace slipway
