// Attention by tiles of queries and keys (kernels/attention.hpp). The scores of a tile stay in the cache: no [T, T]
// matrix is written and read back, and fully masked tiles are skipped.
#include <cmath>

#include "kernels/checks.hpp"
#include "kernels/cpu/attention_decode.hpp"
#include "kernels/cpu/attention_tile.hpp"
#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/parallel.hpp"

namespace slipway::cpu {
namespace {

/// One thread's buffers for a tile of queries.
template <class E>
struct Workspace {
  Buffer<E> q_KT, probs_ST, v_SK;  ///< the last two only for bf16: copies packed in pairs
  Buffer<float> scores_ST, out_TK;
  float max_T[kTileQueries];     ///< largest score so far
  float sum_T[kTileQueries];     ///< sum of exp(score - max) so far
  float factor_T[kTileQueries];  ///< rescales earlier sums to the new maximum

  void begin(int K) {
    const std::size_t tile_floats = static_cast<std::size_t>(K) * kTileQueries;
    if (q_KT.size() < tile_floats) {
      q_KT = Buffer<E>(tile_floats);
      out_TK = Buffer<float>(tile_floats);
      if (kVnniPacked<E>) v_SK = Buffer<E>(static_cast<std::size_t>(K) * kTileKeys);
    }
    if (scores_ST.size() == 0) {
      scores_ST = Buffer<float>(std::size_t{kTileKeys} * kTileQueries);
      if (kVnniPacked<E>) probs_ST = Buffer<E>(std::size_t{kTileKeys} * kTileQueries);
    }
    std::fill_n(out_TK.data(), tile_floats, 0.0f);
    std::fill_n(max_T, kTileQueries, kMinusInfinity);
    std::fill_n(sum_T, kTileQueries, 0.0f);
  }
  /// The softmax weights of the tile, in the layout that the matmul with v reads.
  const E* weights() const {
    if constexpr (!kVnniPacked<E>) {
      return scores_ST.data();
    } else {
      return probs_ST.data();
    }
  }
};

/// Sets the scores of masked keys to -inf.
void mask_group(KeyRange keys, const int* first_T, const int* last_T, float* scores_ST) {
  for (int s = keys.begin; s < keys.end; ++s) {
    float* score_T = scores_ST + (s - keys.begin) * kTileQueries;
#pragma omp simd
    for (int t = 0; t < kGroup; ++t) score_T[t] = s < first_T[t] || s > last_T[t] ? kMinusInfinity : score_T[t];
  }
}

/// Online softmax of one group: turns q k of `keys` keys into exp(scale q k - maximum), and updates maximum, sum and
/// factor.
void update_softmax(int keys, float scale, float* scores_ST, float* max_T, float* sum_T, float* factor_T) {
  float base_T[kGroup], total_T[kGroup];  // base: the maximum that is subtracted
  std::copy_n(max_T, kGroup, base_T);
  for (int s = 0; s < keys; ++s) {
    float* score_T = scores_ST + s * kTileQueries;
#pragma omp simd
    for (int t = 0; t < kGroup; ++t) {
      score_T[t] *= scale;
      base_T[t] = score_T[t] > base_T[t] ? score_T[t] : base_T[t];
    }
  }
#pragma omp simd
  for (int t = 0; t < kGroup; ++t) {
    const float old_max = max_T[t];
    max_T[t] = base_T[t];
    base_T[t] = base_T[t] == kMinusInfinity ? 0.0f : base_T[t];  // a query that has seen no key yet: exp(-inf - 0) is 0
    factor_T[t] = body::exp(old_max - base_T[t]);
    total_T[t] = sum_T[t] * factor_T[t];
  }
  for (int s = 0; s < keys; ++s) {
    float* score_T = scores_ST + s * kTileQueries;
#pragma omp simd
    for (int t = 0; t < kGroup; ++t) {
      score_T[t] = body::exp(score_T[t] - base_T[t]);
      total_T[t] += score_T[t];
    }
  }
  std::copy_n(total_T, kGroup, sum_T);
}

/// Attention of the queries [t0, t0 + kTileQueries) of one head of one sequence.
template <class E>
void attend(const Attention& op, const AttentionIndexing& indexing, int b, int h, int t0, Workspace<E>& work) {
  const int K = op.shape.head_width;
  const QueryTile queries(indexing, b, t0, op.shape.queries);
  const std::int64_t row0 = indexing.query_row(b, t0), kv_col = std::int64_t{indexing.kv_head(h)} * K,
                     q_col = std::int64_t{h} * K;
  work.begin(K);
  transpose_rows<kTileQueries, E>(queries.count, K, {op.q_NHK.row<E>(row0) + q_col, op.q_NHK.stride}, work.q_KT.data());

  const KeyRange attended_keys = queries.keys_attended_by(0, queries.count);
  for (int s0 = attended_keys.begin / kTileKeys * kTileKeys; s0 < attended_keys.end; s0 += kTileKeys) {
    // Positions in the tile count from s0. In a bf16 pair of keys of which one is masked, that one gets weight 0.
    const KeyRange tile = KeyRange{0, kTileKeys}.intersect({attended_keys.begin - s0, attended_keys.end - s0});
    const KeyRange padded_tile = round_to_vnni<E>(tile);
    const Rows<const E> k{op.k_SGK.row<E>(indexing.key_row(b, s0)) + kv_col, op.k_SGK.stride};
    const Rows<const E> v =
        pack_vnni_rows<E>(tile.end, K, {op.v_SGK.row<E>(indexing.key_row(b, s0)) + kv_col, op.v_SGK.stride}, work.v_SK);

    for (int t = 0; t < queries.count; t += kGroup) {
      const int count = std::min(kGroup, queries.count - t);
      const KeyRange attended = queries.keys_attended_by(t, count),
                     keys = KeyRange{attended.begin - s0, attended.end - s0}.intersect(tile);
      float* scores_ST = work.scores_ST.data() + t;
      std::fill_n(work.factor_T + t, kGroup, 1.0f);
      if (keys.empty()) {
        clear_group(padded_tile.begin, padded_tile.end, scores_ST);
      } else {
        clear_group(padded_tile.begin, keys.begin, scores_ST);
        clear_group(keys.end, padded_tile.end, scores_ST);
        float* group_scores_ST = scores_ST + std::ptrdiff_t{keys.begin} * kTileQueries;
        const KeyRange positions{keys.begin + s0, keys.end + s0};
        score_group<E>(keys.end - keys.begin, count, K, {k.data + keys.begin * k.stride, k.stride},
                       work.q_KT.data() + t * kVnniFactor<E>, group_scores_ST);
        if (!queries.keys_attended_by_all(t, count).covers(positions))
          mask_group(positions, queries.first + t, queries.last + t, group_scores_ST);
        update_softmax(keys.end - keys.begin, op.shape.scale, group_scores_ST, work.max_T + t, work.sum_T + t,
                       work.factor_T + t);
      }
      if constexpr (kVnniPacked<E>)
        for (int s = padded_tile.begin; s < padded_tile.end; s += 2)
          pair_keys(scores_ST + std::ptrdiff_t{s} * kTileQueries,
                    work.probs_ST.data() + std::ptrdiff_t{s} * kTileQueries + 2 * t);
    }
    for (int t = 0; t < queries.count; t += tile::kRows) {
      const int count = std::min(tile::kRows, queries.count - t);
      const KeyRange attended = queries.keys_attended_by(t, count),
                     keys = KeyRange{attended.begin - s0, attended.end - s0}.intersect(tile);
      if (keys.empty()) continue;
      const KeyRange padded_keys = round_to_vnni<E>(keys);
      tile_gemm<E>(count, K, vnni_groups<E>(padded_keys.end - padded_keys.begin),
                   lhs_over_keys(work.weights(), padded_keys.begin, t), v.from(padded_keys.begin / kVnniFactor<E>, 0),
                   {work.out_TK.data() + std::ptrdiff_t{t} * K, K}, work.factor_T + t);
    }
  }

  for (int t = 0; t < queries.count; ++t)
    finish_query<E>(op, row0 + t, h, work.out_TK.data() + std::ptrdiff_t{t} * K, work.max_T[t], work.sum_T[t]);
}

template <class E>
void attention_typed(const Stream& stream, const Attention& op) {
  const AttentionIndexing indexing(op.shape);
  const int heads = op.shape.heads, tiles = indexing.query_tiles();
  if (op.shape.queries == 1)
    return for_each_row(stream, op.shape.sequences * heads, op.shape.keys * op.shape.head_width, [&](int item) {
      static thread_local OneQueryWorkspace<E> work;
      attend_one_query<E>(op, indexing, item / heads, item % heads, 0, work);
    });
  const std::int64_t items = std::int64_t{op.shape.sequences} * heads * tiles;
  [[maybe_unused]] const int workers = threads_for(stream, items * kTileQueries * op.shape.keys);

#pragma omp parallel for schedule(dynamic) num_threads(workers)
  for (std::int64_t item = 0; item < items; ++item) {
    static thread_local Workspace<E> work;
    const int tile = tiles - 1 - static_cast<int>(item % tiles);  // the last tiles have the most keys: they run first
    const int b = static_cast<int>(item / tiles / heads), h = static_cast<int>(item / tiles % heads);
    attend<E>(op, indexing, b, h, tile * kTileQueries, work);
  }
}

}  // namespace

void attention(Stream& stream, const Attention& op) {
  check(op);
  dispatch_dtype(op.q_NHK.dtype, [&]<class E>(Type<E>) { attention_typed<E>(stream, op); });
}

}  // namespace slipway::cpu
