// Gradient of attention, by the tiles of attention_tile.hpp: scores are recomputed from q, k and lse, which costs one
// matmul and saves reading and writing a [T, T] matrix four times.
#include <array>

#include "kernels/checks.hpp"
#include "kernels/cpu/attention_tile.hpp"
#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/parallel.hpp"

namespace slipway::cpu {
namespace {

constexpr auto kOnes = [] {  // factors of tile_gemm with which it accumulates
  std::array<float, kTileKeys> ones{};
  ones.fill(1.0f);
  return ones;
}();

/// Which gradients a pass over a tile adds to.
enum class GradTarget { kAll, kQueries, kKeys };

/// One thread's buffers: a tile of queries, the current tile of scores, and the f32 sums of the gradients.
template <class E>
struct Workspace {
  Buffer<E> q_KT, dout_KT;
  Buffer<float> probs_ST, dscores_ST;
  Buffer<E> probs_bf16_ST, dscores_bf16_ST, dscore_pairs_ST;  ///< only for bf16: in the layouts of the matmuls
  Buffer<E> q_TK, dout_TK, k_SK;                              ///< only for bf16: rows packed in pairs
  Buffer<float> dq_TK, dk_SK, dv_SK;
  float lse_T[kTileQueries];
  float delta_T[kTileQueries];  ///< out . dout

  void reserve(int K) {
    const std::size_t rows = std::max(kTileQueries, kTileKeys), size = static_cast<std::size_t>(K) * rows;
    if (q_KT.size() < size) {
      for (Buffer<E>* buffer : {&q_KT, &dout_KT}) *buffer = Buffer<E>(size);
      if (kVnniPacked<E>)
        for (Buffer<E>* buffer : {&q_TK, &dout_TK, &k_SK}) *buffer = Buffer<E>(size);
    }
    constexpr std::size_t kTile = std::size_t{kTileKeys} * kTileQueries;
    if (probs_ST.size() > 0) return;
    for (Buffer<float>* buffer : {&probs_ST, &dscores_ST}) *buffer = Buffer<float>(kTile);
    if (kVnniPacked<E>)
      for (Buffer<E>* buffer : {&probs_bf16_ST, &dscores_bf16_ST, &dscore_pairs_ST}) *buffer = Buffer<E>(kTile);
  }
  /// `buffer` as zeroed sums [rows, K].
  static Rows<float> sums(Buffer<float>& buffer, int rows, int K) {
    const std::size_t size = static_cast<std::size_t>(rows) * static_cast<std::size_t>(K);
    buffer.reserve(size);
    std::fill_n(buffer.data(), size, 0.0f);
    return {buffer.data(), K};
  }
  // The tile as the matmuls read it: f32 in place, bf16 as converted by convert_group_to_bf16().
  const E* weights() const { return select(probs_ST, probs_bf16_ST); }
  const E* dscores() const { return select(dscores_ST, dscores_bf16_ST); }
  const E* dscores_lhs_over_keys() const { return select(dscores_ST, dscore_pairs_ST); }

 private:
  static const E* select(const Buffer<float>& f32, const Buffer<E>& bf16) {
    if constexpr (kVnniPacked<E>) {
      return bf16.data();
    } else {
      return f32.data();
    }
  }
};

/// Copies the lanes of one group, rows [begin, end) with an even begin, into the layouts that bf16 matmuls read.
void convert_group_to_bf16(Workspace<Bf16>& work, KeyRange keys, int t) {
  const auto convert = [](const float* from_T, Bf16* to_T) {
    for (int i = 0; i < kGroup; i += kLanes) store_as_bf16(to_T + i, load(from_T + i));
  };
  for (int s = keys.begin; s < keys.end; ++s) {
    const std::ptrdiff_t at = std::ptrdiff_t{s} * kTileQueries + t;
    convert(work.probs_ST.data() + at, work.probs_bf16_ST.data() + at);
    convert(work.dscores_ST.data() + at, work.dscores_bf16_ST.data() + at);
    if (s % 2 == 0) pair_keys(work.dscores_ST.data() + at, work.dscore_pairs_ST.data() + at + t);
  }
}

/// The queries [t0, t0 + kTileQueries) of one head of one sequence, and the offsets of their rows.
template <class E>
struct GradTile {
  const AttentionGrad& op;
  const AttentionIndexing& indexing;
  int b, h, t0;
  QueryTile queries;
  std::int64_t row0, q_col, kv_col;
  Workspace<E>& work;
  Rows<const E> packed_q, packed_dout;  ///< rows of the tile, in the layout of matmuls that sum over queries

  GradTile(const AttentionGrad& gradient, const AttentionIndexing& attention_indexing, int sequence, int head,
           int first, Workspace<E>& scratch)
      : op(gradient),
        indexing(attention_indexing),
        b(sequence),
        h(head),
        t0(first),
        queries(attention_indexing, b, t0, op.shape.queries),
        row0(indexing.query_row(b, t0)),
        q_col(std::int64_t{h} * op.shape.head_width),
        kv_col(std::int64_t{indexing.kv_head(h)} * op.shape.head_width),
        work(scratch) {
    const int K = op.shape.head_width;
    work.reserve(K);
    const Rows<const E> q = rows_at(op.q_NHK, row0, q_col), dout = rows_at(op.dout_NHK, row0, q_col);
    transpose_rows<kTileQueries, E>(queries.count, K, q, work.q_KT.data());
    transpose_rows<kTileQueries, E>(queries.count, K, dout, work.dout_KT.data());
    packed_q = pack_vnni_rows<E>(queries.count, K, q, work.q_TK);
    packed_dout = pack_vnni_rows<E>(queries.count, K, dout, work.dout_TK);
    for (int t = 0; t < kTileQueries; ++t) {
      const bool is_valid = t < queries.count;
      const E* out_K = op.out_NHK.row<E>(row0 + (is_valid ? t : 0)) + q_col;
      const E* dout_K = op.dout_NHK.row<E>(row0 + (is_valid ? t : 0)) + q_col;
      work.lse_T[t] = is_valid ? op.lse_NH.row(row0 + t)[h] : 0.0f;
      work.delta_T[t] = SerialTeam{}.sum(K, [=](int k) { return to_f32(out_K[k]) * to_f32(dout_K[k]); });
    }
  }

  static Rows<const E> rows_at(const ConstTensorView& m, std::int64_t row, std::int64_t col) {
    return {m.row<E>(row) + col, m.stride};
  }
  Rows<const E> k(int s) const { return rows_at(op.k_SGK, indexing.key_row(b, s), kv_col); }
  Rows<const E> v(int s) const { return rows_at(op.v_SGK, indexing.key_row(b, s), kv_col); }

  void compute_weights(int s0, KeyRange tile) const;
  void add_key_gradients(int s0, KeyRange tile, Rows<float> dk_SK, Rows<float> dv_SK) const;
  void add_query_gradients(int s0, KeyRange tile, Rows<float> dq_TK) const;

  /// Adds the gradients of these queries against the keys [s0, s0 + kTileKeys): dq to the sums of the tile of queries,
  /// dk and dv to the sums of the tile of keys.
  void add(int s0, GradTarget target, Rows<float> dq_TK, Rows<float> dk_SK, Rows<float> dv_SK) const {
    const KeyRange attended_keys = queries.keys_attended_by(0, queries.count);
    const KeyRange tile = KeyRange{0, kTileKeys}.intersect({attended_keys.begin - s0, attended_keys.end - s0});
    if (tile.empty()) return;
    compute_weights(s0, tile);
    if (target != GradTarget::kQueries) add_key_gradients(s0, tile, dk_SK, dv_SK);
    if (target != GradTarget::kKeys) add_query_gradients(s0, tile, dq_TK);
  }
};

// Below, `tile` and `keys` count from the first key of the tile, s0.

/// weights = exp(scale q k - lse), dscores = scale * weights * (dout v - delta); both zero where masked.
template <class E>
void GradTile<E>::compute_weights(int s0, KeyRange tile) const {
  const int K = op.shape.head_width;
  const float scale = op.shape.scale;
  const KeyRange padded_tile = round_to_vnni<E>(tile);
  for (int t = 0; t < queries.count; t += kGroup) {
    const int count = std::min(kGroup, queries.count - t);
    const KeyRange attended = queries.keys_attended_by(t, count);
    KeyRange keys = KeyRange{attended.begin - s0, attended.end - s0}.intersect(tile);
    if (keys.empty()) keys = {padded_tile.end, padded_tile.end};
    float* probs_ST = work.probs_ST.data() + t;
    float* dscores_ST = work.dscores_ST.data() + t;
    for (float* cleared_ST : {probs_ST, dscores_ST}) {
      clear_group(padded_tile.begin, keys.begin, cleared_ST);
      clear_group(keys.end, padded_tile.end, cleared_ST);
    }
    probs_ST += std::ptrdiff_t{keys.begin} * kTileQueries;
    dscores_ST += std::ptrdiff_t{keys.begin} * kTileQueries;
    if (!keys.empty()) {
      const Rows<const E> k_SK = k(s0 + keys.begin), v_SK = v(s0 + keys.begin);
      score_group<E>(keys.end - keys.begin, count, K, k_SK, work.q_KT.data() + t * kVnniFactor<E>, probs_ST);
      score_group<E>(keys.end - keys.begin, count, K, v_SK, work.dout_KT.data() + t * kVnniFactor<E>, dscores_ST);
    }

    const int *first_T = queries.first + t, *last_T = queries.last + t;
    const float *lse_T = work.lse_T + t, *delta_T = work.delta_T + t;
    const bool all_visible = queries.keys_attended_by_all(t, kGroup).covers({s0 + keys.begin, s0 + keys.end});
    for (int s = s0 + keys.begin; s < s0 + keys.end; ++s, probs_ST += kTileQueries, dscores_ST += kTileQueries) {
#pragma omp simd
      for (int i = 0; i < kGroup; ++i) {
        const float weight = body::exp(scale * probs_ST[i] - lse_T[i]);
        probs_ST[i] = weight;
        dscores_ST[i] = scale * weight * (dscores_ST[i] - delta_T[i]);
      }
      if (all_visible) continue;
#pragma omp simd
      for (int i = 0; i < kGroup; ++i) {
        const bool is_masked = s < first_T[i] || s > last_T[i];
        probs_ST[i] = is_masked ? 0.0f : probs_ST[i];
        dscores_ST[i] = is_masked ? 0.0f : dscores_ST[i];
      }
    }
    if constexpr (kVnniPacked<E>) convert_group_to_bf16(work, padded_tile, t);
  }
}

/// dv[s] += sum over t of weights[s, t] dout[t]; dk[s] += sum over t of dscores[s, t] q[t].
template <class E>
void GradTile<E>::add_key_gradients(int s0, KeyRange tile, Rows<float> dk_SK, Rows<float> dv_SK) const {
  const int K = op.shape.head_width;
  for (int s = tile.begin; s < tile.end; s += tile::kRows) {
    const int rows = std::min(tile::kRows, tile.end - s);
    int t = std::max(0, s0 + s - indexing.position(t0));  // earlier queries come before these keys
    if (t >= queries.count) break;
    t = t / kVnniFactor<E> * kVnniFactor<E>;
    const int depth = vnni_groups<E>(queries.count - t);
    tile_gemm<E>(rows, K, depth, lhs_over_queries<E>(work.weights(), s, t), packed_dout.from(t / kVnniFactor<E>, 0),
                 dv_SK.from(s, 0), kOnes.data());
    tile_gemm<E>(rows, K, depth, lhs_over_queries<E>(work.dscores(), s, t), packed_q.from(t / kVnniFactor<E>, 0),
                 dk_SK.from(s, 0), kOnes.data());
  }
}

/// dq[t] += sum over s of dscores[s, t] k[s].
template <class E>
void GradTile<E>::add_query_gradients(int s0, KeyRange tile, Rows<float> dq_TK) const {
  const int K = op.shape.head_width;
  const Rows<const E> packed_k = pack_vnni_rows<E>(tile.end, K, k(s0), work.k_SK);
  for (int t = 0; t < queries.count; t += tile::kRows) {
    const int rows = std::min(tile::kRows, queries.count - t);
    const KeyRange attended = queries.keys_attended_by(t, rows),
                   keys = KeyRange{attended.begin - s0, attended.end - s0}.intersect(tile);
    if (keys.empty()) continue;
    const KeyRange padded_keys = round_to_vnni<E>(keys);
    tile_gemm<E>(rows, K, vnni_groups<E>(padded_keys.end - padded_keys.begin),
                 lhs_over_keys(work.dscores_lhs_over_keys(), padded_keys.begin, t),
                 packed_k.from(padded_keys.begin / kVnniFactor<E>, 0), dq_TK.from(t, 0), kOnes.data());
  }
}

template <class E>
Workspace<E>& workspace() {
  static thread_local Workspace<E> work;
  return work;
}

/// The query heads [begin, end) that attend to key-value head g.
KeyRange query_heads(const AttentionIndexing& indexing, int heads, int g) {
  int begin = 0;
  while (begin < heads && indexing.kv_head(begin) < g) ++begin;
  int end = begin;
  while (end < heads && indexing.kv_head(end) == g) ++end;
  return {begin, end};
}

/// Writes finished sums to a gradient of the op.
template <class E>
void write_grad(Rows<float> sums, int rows, int K, const TensorView& to, std::int64_t row, int col) {
  for (int r = 0; r < rows; ++r) {
    const float* sum_K = sums.from(r, 0).data;
    E* to_K = to.row<E>(row + r) + col;
    SerialTeam{}.for_each(K, [=](int k) { to_K[k] = cast_to<E>(sum_K[k]); });
  }
}

// One work item is a key-value head of a sequence, with all query heads that attend to it: scores are computed once.
// Where that leaves threads idle, there are two passes instead, over tiles of queries and over tiles of keys, with 7
// matmuls per pair of tiles in place of 5. Both ways sum in the same order: dq over tiles of keys; dk, dv over query
// heads, then tiles of queries.
template <class E>
void attention_grad_typed(const Stream& stream, const AttentionGrad& op) {
  const AttentionIndexing indexing(op.shape);
  const int T = op.shape.queries, K = op.shape.head_width, H = op.shape.heads, G = op.shape.kv_heads;
  const int query_tiles = indexing.query_tiles(), key_tiles = (T + kTileKeys - 1) / kTileKeys;
  const int units = op.shape.sequences * G;
  const int workers = threads_for(stream, std::int64_t{op.shape.sequences} * H * T * T);

  const int rounds = (units + workers - 1) / workers;
  constexpr double kTwoPassCost = 1.4;  // 7 matmuls against 5
  const bool single_pass = rounds * workers <= units * kTwoPassCost;

  if (single_pass) {
#pragma omp parallel for schedule(dynamic) num_threads(workers)
    for (int unit = 0; unit < units; ++unit) {
      const int b = unit / G, g = unit % G;
      Workspace<E>& work = workspace<E>();
      const Rows<float> dk_SK = work.sums(work.dk_SK, T, K), dv_SK = work.sums(work.dv_SK, T, K);
      const KeyRange heads = query_heads(indexing, H, g);
      for (int h = heads.begin; h < heads.end; ++h)
        for (int t0 = 0; t0 < T; t0 += kTileQueries) {
          const Rows<float> dq_TK = work.sums(work.dq_TK, kTileQueries, K);
          const GradTile<E> tile(op, indexing, b, h, t0, work);
          for (int s0 = 0; s0 < T; s0 += kTileKeys)
            tile.add(s0, GradTarget::kAll, dq_TK, dk_SK.from(s0, 0), dv_SK.from(s0, 0));
          write_grad<E>(dq_TK, tile.queries.count, K, op.dq_NHK, indexing.query_row(b, t0), h * K);
        }
      write_grad<E>(dk_SK, T, K, op.dk_SGK, indexing.key_row(b, 0), g * K);
      write_grad<E>(dv_SK, T, K, op.dv_SGK, indexing.key_row(b, 0), g * K);
    }
    return;
  }

  const std::int64_t query_items = std::int64_t{op.shape.sequences} * H * query_tiles;
#pragma omp parallel for schedule(dynamic) num_threads(workers)
  for (std::int64_t item = 0; item < query_items; ++item) {
    const int b = static_cast<int>(item / query_tiles / H), h = static_cast<int>(item / query_tiles % H);
    const int t0 = static_cast<int>(item % query_tiles) * kTileQueries;
    Workspace<E>& work = workspace<E>();
    const Rows<float> dq_TK = work.sums(work.dq_TK, kTileQueries, K);
    const GradTile<E> tile(op, indexing, b, h, t0, work);
    for (int s0 = 0; s0 < T; s0 += kTileKeys) tile.add(s0, GradTarget::kQueries, dq_TK, {}, {});
    write_grad<E>(dq_TK, tile.queries.count, K, op.dq_NHK, indexing.query_row(b, t0), h * K);
  }
  const std::int64_t key_items = std::int64_t{units} * key_tiles;
#pragma omp parallel for schedule(dynamic) num_threads(workers)
  for (std::int64_t item = 0; item < key_items; ++item) {
    const int b = static_cast<int>(item / key_tiles / G), g = static_cast<int>(item / key_tiles % G);
    const int s0 = static_cast<int>(item % key_tiles) * kTileKeys, rows = std::min(kTileKeys, T - s0);
    Workspace<E>& work = workspace<E>();
    const Rows<float> dk_SK = work.sums(work.dk_SK, kTileKeys, K), dv_SK = work.sums(work.dv_SK, kTileKeys, K);
    const KeyRange heads = query_heads(indexing, H, g);
    for (int h = heads.begin; h < heads.end; ++h)
      for (int t0 = s0 / kTileQueries * kTileQueries; t0 < T; t0 += kTileQueries)
        GradTile<E>(op, indexing, b, h, t0, work).add(s0, GradTarget::kKeys, {}, dk_SK, dv_SK);
    write_grad<E>(dk_SK, rows, K, op.dk_SGK, indexing.key_row(b, s0), g * K);
    write_grad<E>(dv_SK, rows, K, op.dv_SGK, indexing.key_row(b, s0), g * K);
  }
}

}  // namespace

void attention_grad(Stream& stream, const AttentionGrad& op) {
  check(op);
  dispatch_dtype(op.q_NHK.dtype, [&]<class E>(Type<E>) { attention_grad_typed<E>(stream, op); });
}

}  // namespace slipway::cpu
