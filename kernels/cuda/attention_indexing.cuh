// The indexing of the attention kernels: the sequence, head and tile of a block, and the keys that a query attends to.
#pragma once

#include "kernels/attention.hpp"
#include "kernels/cuda/launch.cuh"
#include "src/core/error.hpp"

namespace slipway::cuda {

/// An AttentionShape for kernels, with the defaults filled in.
struct AttentionParams {
  int sequences, queries, keys, key_rows, heads, kv_heads, head_width, queries_per_kv, first_head;
  float scale;
  const int* key_start_BT;

  explicit AttentionParams(const AttentionShape& s)
      : sequences(s.sequences),
        queries(s.queries),
        keys(s.keys),
        key_rows(s.key_rows == 0 ? s.keys : s.key_rows),
        heads(s.heads),
        kv_heads(s.kv_heads),
        head_width(s.head_width),
        queries_per_kv(s.queries_per_kv),
        first_head(s.first_head),
        scale(s.scale),
        key_start_BT(s.key_start_BT) {}

  __device__ int kv_head(int head) const {
    const int group = (head + first_head) / queries_per_kv;
    return group < kv_heads ? group : kv_heads - 1;
  }
  __device__ std::int64_t query_row(int sequence, int t) const { return std::int64_t{sequence} * queries + t; }
  __device__ std::int64_t key_row(int sequence, int s) const { return std::int64_t{sequence} * key_rows + s; }
  /// The keys that query t sees: [key_start(t), end_key(t)).
  __device__ int key_start(int sequence, int t) const {
    return key_start_BT == nullptr ? 0 : key_start_BT[query_row(sequence, t)];
  }
  __device__ int end_key(int t) const { return t + keys - queries + 1; }
};

/// The sequence, head and tile of block `index`; the tiles of a head have adjacent indices.
struct BlockCoord {
  int sequence, head, tile;
  __device__ BlockCoord(int index, int heads, int tiles)
      : sequence(index / tiles / heads), head(index / tiles % heads), tile(index % tiles) {}
};

/// The lowest key that any of the queries [begin, end) sees.
__device__ inline int min_key_start(const AttentionParams& params, int sequence, int begin, int end) {
  if (params.key_start_BT == nullptr) return 0;
  int lowest = params.keys;
  for (int t = begin; t < end; ++t) {
    const int first = params.key_start(sequence, t);
    lowest = first < lowest ? first : lowest;
  }
  return lowest;
}

template <int kWidth>
struct Width {};

/// `fn(Width<W>{})` for the smallest width W that kernels are compiled for and that a head fits in.
/// Errors   Fault::kConfig when the head is wider than all of them.
template <class Fn>
void dispatch_head_width(int head_width, const Fn& fn) {
  if (head_width <= 32) return fn(Width<32>{});
  if (head_width <= 64) return fn(Width<64>{});
  if (head_width <= 128) return fn(Width<128>{});
  throw Error(Fault::kConfig, join("heads are ", head_width, " wide; attention on a GPU supports 128 at most"));
}

}  // namespace slipway::cuda
