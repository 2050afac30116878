// How heads, feed-forward width and vocabulary are sharded over tensor ranks.
#pragma once

#include "io/model/model_spec.hpp"

namespace slipway {

/// One rank's shard of `total` elements, divided over the ranks as evenly as possible: every rank allocates
/// `padded_size` = ceil(total / ranks); what exceeds `count` is padding.
struct ShardRange {
  int total = 0;
  int first = 0;
  int count = 0;
  int padded_size = 0;
};
ShardRange shard_range_of(int total, int rank, int size);

/// The shard of a model on tensor rank `rank` of `size`.
///
/// Query heads are sharded, and so are key-value heads where they divide evenly. Otherwise key-value heads are
/// replicated.
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
