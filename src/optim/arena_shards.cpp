#include "src/optim/arena_shards.hpp"

namespace slipway {
namespace {

Group::Range shard_of(Group::Range range, int rank, int ranks) {
  const Group::Range shard = Group::shard_range(range.count, rank, ranks);
  return {range.first + shard.first, shard.count};
}

}  // namespace

ArenaShards::ArenaShards(const Parameters& parameters, int data_ranks)
    : data_ranks_(data_ranks),
      buckets_{{0, parameters.trainable_size()}},
      frozen_{parameters.trainable_size(), parameters.values().size() - parameters.trainable_size()} {}

std::vector<Group::Range> ArenaShards::trainable(int data_rank) const {
  std::vector<Group::Range> owned;
  for (const Group::Range& bucket : buckets_) owned.push_back(shard_of(bucket, data_rank, data_ranks_));
  return owned;
}

Group::Range ArenaShards::frozen(int data_rank) const { return shard_of(frozen_, data_rank, data_ranks_); }

}  // namespace slipway
