// How tensor ranks divide heads, the feed-forward width and the vocabulary.
#pragma once

#include "io/model_file.hpp"

namespace slipway {

/// One rank's share of `total` things that `size` ranks divide as evenly as can be: every rank has room for
/// `room` = ceil(total / size); what `count` leaves free is padding.
struct Share {
  int first = 0;
  int count = 0;
  int room = 0;
};
Share share_of(int total, int rank, int size);

/// The part of a model that tensor rank `rank` of `size` holds.
///
/// Query heads are divided, and key-value heads too where that comes out even; else every rank holds all key-value
/// heads (fewer of them than ranks, or groups that would be cut).
struct TensorSplit {
  int rank = 0, size = 1;
  Share heads;
  Share kv_heads;  ///< all of them when kv_whole
  bool kv_whole = false;
  Share ffn;
  Share vocabulary;

  /// Errors   Fault::kConfig when a rank would hold no real query head, naming both keys.
  static TensorSplit of(const ModelDescription& model, int rank, int size);
};

}  // namespace slipway
