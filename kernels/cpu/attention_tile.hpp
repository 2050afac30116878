// Shared by attention and its gradient: the mask, and a tile of scores.
//
// Axes: B sequences, T queries, S keys, H query heads, G key-value heads, K head width.
// A tile holds the scores of kTileKeys keys (rows) and kTileQueries queries (columns): queries lie along the vector's
// lanes, so that the softmax over keys needs no sum across lanes, and keys and values are read in place.
// Tiles of keys begin at fixed key positions, and a masked score adds an exact zero; so a query's result does not
// depend on which other queries share its tile.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/attention.hpp"
#include "kernels/cpu/tile_gemm.hpp"
#include "kernels/team.hpp"
#include "src/core/tensor.hpp"

namespace slipway::cpu {

// Multiples of tile::kRows and of the vector width; the f32 scores of a tile (18 or 24 KB) fit in the L1 cache.
inline constexpr int kTileQueries = kLanes == 16 ? 64 : 48;
inline constexpr int kTileKeys = 96;
inline constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
/// Queries whose mask is tested together: a multiple of the vector width.
inline constexpr int kGroup = 2 * kLanes < 16 ? 16 : 2 * kLanes;
static_assert(kTileQueries % tile::kRows == 0 && kTileKeys % tile::kRows == 0);
static_assert(kTileQueries % kGroup == 0 && kGroup % kLanes == 0 && kTileKeys % 2 == 0);

/// Heads, positions and rows of an AttentionShape.
class AttentionIndexing {
 public:
  explicit AttentionIndexing(const AttentionShape& shape) : shape_(shape) {}

  int kv_head(int h) const { return std::min((h + shape_.first_head) / shape_.queries_per_kv, shape_.kv_heads - 1); }
  int query_tiles() const { return (shape_.queries + kTileQueries - 1) / kTileQueries; }
  int key_rows() const { return shape_.key_rows == 0 ? shape_.keys : shape_.key_rows; }
  int position(int t) const { return t + shape_.keys - shape_.queries; }
  int key_start(int b, int t) const {
    return shape_.key_start_BT == nullptr ? 0 : shape_.key_start_BT[std::int64_t{b} * shape_.queries + t];
  }
  std::int64_t query_row(int b, int t) const { return std::int64_t{b} * shape_.queries + t; }
  std::int64_t key_row(int b, int s) const { return std::int64_t{b} * key_rows() + s; }

 private:
  const AttentionShape& shape_;
};

/// A half-open range of key positions.
struct KeyRange {
  int begin = 0;
  int end = 0;

  bool empty() const { return begin >= end; }
  bool covers(KeyRange other) const { return begin <= other.begin && other.end <= end; }
  KeyRange intersect(KeyRange other) const { return {std::max(begin, other.begin), std::min(end, other.end)}; }
};

/// The queries of one tile and the keys that each of them attends to ("sees"). Lanes without a query see none.
struct QueryTile {
  int count = 0;
  int first[kTileQueries];  ///< first key seen
  int last[kTileQueries];   ///< last key seen

  QueryTile(const AttentionIndexing& indexing, int b, int t0, int queries)
      : count(std::min(kTileQueries, queries - t0)) {
    for (int t = 0; t < kTileQueries; ++t) {
      const bool is_valid = t < count;
      first[t] = is_valid ? indexing.key_start(b, t0 + t) : std::numeric_limits<int>::max();
      last[t] = is_valid ? indexing.position(t0 + t) : -1;
    }
  }
  /// Keys that any of the queries [t, t + n) sees.
  KeyRange keys_attended_by(int t, int n) const {
    return {*std::min_element(first + t, first + t + n), *std::max_element(last + t, last + t + n) + 1};
  }
  /// Keys that all of these queries see.
  KeyRange keys_attended_by_all(int t, int n) const {
    return {*std::max_element(first + t, first + t + n), *std::min_element(last + t, last + t + n) + 1};
  }
};

/// Transposes rows of one head into a tile of kColumns: element (k, t) is `from[t, k]`, zeros beyond the last row.
template <int kColumns, class E>
inline void transpose_rows(int count, int K, Rows<const E> from, E* to) {
  constexpr int kWidth = kVnniFactor<E>, kBlock = 4;  // an f32, or a pair of bf16, has 32 bits: SSE loads four
  const int num_words = K / kWidth;
  int t = 0;
#if defined(__SSE2__)
  for (; t + kBlock <= count; t += kBlock) {
    int p = 0;
    for (; p + kBlock <= num_words; p += kBlock) {
      const auto row = [&](int i) {
        return _mm_loadu_ps(reinterpret_cast<const float*>(from.data + (t + i) * from.stride + p * kWidth));
      };
      __m128 a = row(0), b = row(1), c = row(2), d = row(3);
      _MM_TRANSPOSE4_PS(a, b, c, d);
      const auto store_row = [&](int i, __m128 v) {
        _mm_storeu_ps(reinterpret_cast<float*>(to + ((p + i) * kColumns + t) * kWidth), v);
      };
      store_row(0, a), store_row(1, b), store_row(2, c), store_row(3, d);
    }
    for (; p < num_words; ++p)
      for (int i = 0; i < kBlock; ++i)
        std::copy_n(from.data + (t + i) * from.stride + p * kWidth, kWidth, to + (p * kColumns + t + i) * kWidth);
  }
#endif
  for (; t < kColumns; ++t)
    for (int p = 0; p < num_words; ++p)
      for (int e = 0; e < kWidth; ++e)
        to[(p * kColumns + t) * kWidth + e] = t < count ? from.data[t * from.stride + p * kWidth + e] : E{};
}

/// Scores of `keys` keys and the lanes of one group: `scores[s, t] = sum over k of x[s, k] * queries_KT[k, t]`.
/// Only the vectors that hold queries are computed.
template <class E>
inline void score_group(int keys, int queries, int K, Rows<const E> x, const E* queries_KT, float* scores_ST) {
  const int lanes = (queries + kLanes - 1) / kLanes * kLanes;
  tile_gemm<E>(keys, lanes, vnni_groups<E>(K), {x.data, x.stride, kVnniFactor<E>},
               {queries_KT, kTileQueries * kVnniFactor<E>}, {scores_ST, kTileQueries}, nullptr);
}

/// Rows [0, count) of `from` as the right operand of a matmul that sums over rows: f32 in place, bf16 as a copy that
/// interleaves pairs of rows, with zeros beside an odd last row.
template <class E>
inline Rows<const E> pack_vnni_rows(int count, int K, Rows<const E> from, [[maybe_unused]] Buffer<E>& copy) {
  if constexpr (!kVnniPacked<E>) {
    return from;
  } else {
    for (int r = 0; r < count; r += 2) {
      const E* first_K = from.data + r * from.stride;
      const E* second_K = first_K + from.stride;
      E* pair_K = copy.data() + std::ptrdiff_t{r} * K;
      const bool both = r + 1 < count;
      int k = 0;
      for (; both && k + kLanes <= K; k += kLanes)
        store(pair_K + std::ptrdiff_t{2} * k, interleave_bf16(first_K + k, second_K + k));
      for (; k < K; ++k) pair_K[2 * k] = first_K[k], pair_K[2 * k + 1] = both ? second_K[k] : E{};
    }
    return {copy.data(), std::int64_t{2} * K};
  }
}

/// A tile [S, T] as the left operand of a sum over S: element (t, s).
inline StridedOperand<float> lhs_over_keys(const float* tile_ST, int s, int t) {
  return {tile_ST + std::ptrdiff_t{s} * kTileQueries + t, 1, kTileQueries};
}
inline StridedOperand<Bf16> lhs_over_keys(const Bf16* pairs_ST, int s, int t) {  // s is even
  return {pairs_ST + std::ptrdiff_t{s} * kTileQueries + 2 * t, 2, 2 * kTileQueries};
}
/// A tile [S, T] as the left operand of a sum over T: element (s, t), t even.
template <class E>
inline StridedOperand<E> lhs_over_queries(const E* tile_ST, int s, int t) {
  return {tile_ST + std::ptrdiff_t{s} * kTileQueries + t, kTileQueries, kVnniFactor<E>};
}

/// Rows s and s + 1 of the lanes of one group, converted to bf16, as pairs for lhs_over_keys.
inline void pair_keys(const float* row_T, Bf16* pairs_T) {
  for (int t = 0; t < kGroup; t += kLanes)
    store(pairs_T + std::ptrdiff_t{2} * t, interleave_bf16(load(row_T + t), load(row_T + kTileQueries + t)));
}

/// `keys`, extended to whole groups of kVnniFactor.
template <class E>
inline KeyRange round_to_vnni(KeyRange keys) {
  return {keys.begin / kVnniFactor<E> * kVnniFactor<E>, vnni_groups<E>(keys.end) * kVnniFactor<E>};
}

/// Sets the scores [begin, end) of one group to zero.
inline void clear_group(int begin, int end, float* scores_ST) {
  for (int s = begin; s < end; ++s) std::fill_n(scores_ST + s * kTileQueries, kGroup, 0.0f);
}

/// Writes a query's result and its log-sum-exp, from the sums over its keys: `sum_K` of exp(score - max) v, and `sum`
/// of exp(score - max).
template <class E>
inline void finish_query(const Attention& op, std::int64_t row, int h, const float* sum_K, float max, float sum) {
  const int K = op.shape.head_width;
  E* out_K = op.out_NHK.row<E>(row) + std::int64_t{h} * K;
  const float inverse_sum = sum == 0.0f ? 0.0f : 1.0f / sum;  // a query without keys gives zeros
  SerialTeam{}.for_each(K, [=](int k) { out_K[k] = cast_to<E>(sum_K[k] * inverse_sum); });
  op.lse_NH.row(row)[h] = max + std::log(sum);
}

}  // namespace slipway::cpu
