// How heads, feed-forward width and vocabulary are sharded over tensor ranks.
#pragma once

#include "io/model/model_spec.hpp"

namespace slipway {

/// One rank's shard of `total`, divided over `size` ranks as evenly as can be: every rank allocates
/// `padded_size` = ceil(total / size); what exceeds `count` is padding.
struct ShardRange {
  int total = 0;
  int first = 0;
  int count = 0;
  int padded_size = 0;
};
ShardRange shard_range_of(int total, int rank, int size);

/// The shard of a model on tensor rank `rank` of `size`.
///
/// Query heads are sharded, and key-value heads too where they divide evenly; else they are replicated (fewer of them
/// than ranks, or groups that would be cut).
struct TensorParallelShard {
  int rank = 0, size = 1;
  ShardRange heads;
  ShardRange kv_heads;  ///< all of them when kv_replicated
  bool kv_replicated = false;
  ShardRange ffn;
  ShardRange vocabulary;

  /// Errors   Fault::kConfig when a rank would hold no real query head, naming both keys.
  static TensorParallelShard of(const ModelSpec& model, int rank, int size);
};

}  // namespace slipway
