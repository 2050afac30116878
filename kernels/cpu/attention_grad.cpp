#include <array>

#include "kernels/cpu/attention_tile.hpp"
#include "kernels/cpu/checks.hpp"
#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/parallel.hpp"

namespace slipway::cpu {
namespace {

constexpr auto kOnes = [] {  // products that add to what is there
  std::array<float, kTileKeys> ones{};
  ones.fill(1.0f);
  return ones;
}();

/// Which gradients a pass over a tile adds to.
enum class Wanted { kAll, kQueries, kKeys };

/// One thread's view of a tile of queries, and the tile of scores under work.
struct Workspace {
  Buffer<float> q_KT, dout_KT;
  Buffer<float> weights_ST, dscores_ST;
  float lse_T[kTileQueries];
  float delta_T[kTileQueries];  ///< out . dout: what the softmax's denominator gives back

  void fit(int K) {
    const std::size_t tile_floats = static_cast<std::size_t>(K) * kTileQueries;
    if (q_KT.size() < tile_floats) {
      q_KT = Buffer<float>(tile_floats);
      dout_KT = Buffer<float>(tile_floats);
    }
    if (weights_ST.size() == 0) {
      weights_ST = Buffer<float>(std::size_t{kTileKeys} * kTileQueries);
      dscores_ST = Buffer<float>(std::size_t{kTileKeys} * kTileQueries);
    }
  }
};

/// One head's queries [t0, t0 + kTileQueries) of one sequence, with where their rows are.
struct GradTile {
  const AttentionGrad& op;
  const AttentionMap& map;
  int b, h, t0;
  QueryTile queries;
  std::int64_t row0, q_col, kv_col;
  Workspace& work;

  GradTile(const AttentionGrad& gradient, const AttentionMap& places, int sequence, int head, int first,
           Workspace& scratch)
      : op(gradient),
        map(places),
        b(sequence),
        h(head),
        t0(first),
        queries(places, b, t0, op.shape.queries),
        row0(map.query_row(b, t0)),
        q_col(std::int64_t{h} * op.shape.head_width),
        kv_col(std::int64_t{map.kv_head(h)} * op.shape.head_width),
        work(scratch) {
    const int K = op.shape.head_width;
    work.fit(K);
    transpose_queries(queries.count, K, q(), op.shape.scale, work.q_KT.data());
    transpose_queries(queries.count, K, dout(), 1.0f, work.dout_KT.data());
    for (int t = 0; t < kTileQueries; ++t) {
      const bool used = t < queries.count;
      const float* out_K = op.out_NHK.row(row0 + (used ? t : 0)) + q_col;
      const float* dout_K = op.dout_NHK.row(row0 + (used ? t : 0)) + q_col;
      work.lse_T[t] = used ? op.lse_NH.row(row0 + t)[h] : 0.0f;
      work.delta_T[t] = SerialTeam{}.sum(K, [=](int k) { return out_K[k] * dout_K[k]; });
    }
  }

  Rows<const float> q() const { return {op.q_NHK.row(row0) + q_col, op.q_NHK.stride}; }
  Rows<const float> dout() const { return {op.dout_NHK.row(row0) + q_col, op.dout_NHK.stride}; }
  Rows<const float> k(int s) const { return {op.k_SGK.row(map.key_row(b, s)) + kv_col, op.k_SGK.stride}; }
  Rows<const float> v(int s) const { return {op.v_SGK.row(map.key_row(b, s)) + kv_col, op.v_SGK.stride}; }
  Rows<float> dk(int s) const { return {op.dk_SGK.row(map.key_row(b, s)) + kv_col, op.dk_SGK.stride}; }
  Rows<float> dv(int s) const { return {op.dv_SGK.row(map.key_row(b, s)) + kv_col, op.dv_SGK.stride}; }
  Rows<float> dq() const { return {op.dq_NHK.row(row0) + q_col, op.dq_NHK.stride}; }

  void find_weights(int s0, KeyRange tile) const;
  void add_key_gradients(int s0, KeyRange tile) const;
  void add_query_gradients(int s0, KeyRange tile) const;

  /// Adds what the keys [s0, s0 + kTileKeys) and these queries give each other.
  void add(int s0, Wanted wanted) const {
    const KeyRange tile = KeyRange{s0, s0 + kTileKeys}.within(queries.seen_by(0, queries.count));
    if (tile.empty()) return;
    find_weights(s0, tile);
    if (wanted != Wanted::kQueries) add_key_gradients(s0, tile);
    if (wanted != Wanted::kKeys) add_query_gradients(s0, tile);
  }
};

/// weights = exp(scale q k - lse), dscores = scale * weights * (dout v - delta); both zero where a query does not look.
void GradTile::find_weights(int s0, KeyRange tile) const {
  const int K = op.shape.head_width;
  const float scale = op.shape.scale;
  for (int t = 0; t < queries.count; t += kGroup) {
    const int count = std::min(kGroup, queries.count - t);
    KeyRange keys = queries.seen_by(t, count).within(tile);
    if (keys.empty()) keys = {tile.end, tile.end};
    float* weights_ST = work.weights_ST.data() + t;
    float* dscores_ST = work.dscores_ST.data() + t;
    for (float* cleared_ST : {weights_ST, dscores_ST}) {
      clear_group(tile.begin - s0, keys.begin - s0, cleared_ST);
      clear_group(keys.end - s0, tile.end - s0, cleared_ST);
    }
    weights_ST += (keys.begin - s0) * kTileQueries;
    dscores_ST += (keys.begin - s0) * kTileQueries;
    score_group(keys.end - keys.begin, count, K, k(keys.begin), work.q_KT.data() + t, weights_ST);
    score_group(keys.end - keys.begin, count, K, v(keys.begin), work.dout_KT.data() + t, dscores_ST);

    const int *first_T = queries.first + t, *last_T = queries.last + t;
    const float *lse_T = work.lse_T + t, *delta_T = work.delta_T + t;
    for (int s = keys.begin; s < keys.end; ++s, weights_ST += kTileQueries, dscores_ST += kTileQueries) {
#pragma omp simd
      for (int i = 0; i < kGroup; ++i) {
        const float weight = body::exp(weights_ST[i] - lse_T[i]);
        const float dscore = scale * weight * (dscores_ST[i] - delta_T[i]);
        const bool hidden = s < first_T[i] || s > last_T[i];
        weights_ST[i] = hidden ? 0.0f : weight;
        dscores_ST[i] = hidden ? 0.0f : dscore;
      }
    }
  }
}

/// dv[s] += sum over t of weights[s, t] dout[t]; dk[s] += sum over t of dscores[s, t] q[t].
void GradTile::add_key_gradients(int s0, KeyRange tile) const {
  const int K = op.shape.head_width;
  for (int s = tile.begin; s < tile.end; s += tile::kRows) {
    const int rows = std::min(tile::kRows, tile.end - s);
    const int t = std::max(0, s - map.position(t0));  // earlier queries stand before these keys
    if (t >= queries.count) break;
    const std::ptrdiff_t corner = std::ptrdiff_t{s - s0} * kTileQueries + t;
    tile_product(rows, K, queries.count - t, {work.weights_ST.data() + corner, kTileQueries, 1}, dout().from(t, 0),
                 dv(s), kOnes.data());
    tile_product(rows, K, queries.count - t, {work.dscores_ST.data() + corner, kTileQueries, 1}, q().from(t, 0), dk(s),
                 kOnes.data());
  }
}

/// dq[t] += sum over s of dscores[s, t] k[s].
void GradTile::add_query_gradients(int s0, KeyRange tile) const {
  for (int t = 0; t < queries.count; t += tile::kRows) {
    const int rows = std::min(tile::kRows, queries.count - t);
    const KeyRange keys = queries.seen_by(t, rows).within(tile);
    if (keys.empty()) continue;
    tile_product(rows, op.shape.head_width, keys.end - keys.begin,
                 {work.dscores_ST.data() + std::ptrdiff_t{keys.begin - s0} * kTileQueries + t, 1, kTileQueries},
                 k(keys.begin), dq().from(t, 0), kOnes.data());
  }
}

Workspace& workspace() {
  static thread_local Workspace work;
  return work;
}

/// Query heads [begin, end) that look at key-value head g.
KeyRange heads_of(const AttentionMap& map, int heads, int g) {
  int begin = 0;
  while (begin < heads && map.kv_head(begin) < g) ++begin;
  int end = begin;
  while (end < heads && map.kv_head(end) == g) ++end;
  return {begin, end};
}

void zero(Matrix<float> m, std::int64_t row, int rows, int col, int cols) {
  for (int r = 0; r < rows; ++r) std::fill_n(m.row(row + r) + col, cols, 0.0f);
}

}  // namespace

// A thread takes a key-value head of a sequence, with all query heads that look at it: scores are computed once. Where
// that leaves threads idle, two passes share out tiles of queries and tiles of keys instead, for 7 products a pair in
// place of 5. Both ways every element sums in one order: dq over tiles of keys; dk, dv over query heads, then tiles of
// queries.
void attention_grad(Stream&, const AttentionGrad& op) {
  check_attention(op.shape, op.q_NHK, op.k_SGK, op.v_SGK, op.lse_NH);
  require(op.shape.queries == op.shape.keys,
          "attention_grad: is for training, where queries and keys are the same rows");
  for (const Matrix<const float>& like_q : {op.out_NHK, op.dout_NHK, Matrix<const float>(op.dq_NHK)})
    require_same_shape("attention_grad", op.q_NHK, like_q);
  require_same_shape("attention_grad", op.k_SGK, op.dk_SGK);
  require_same_shape("attention_grad", op.v_SGK, op.dv_SGK);

  const AttentionMap map(op.shape);
  const int T = op.shape.queries, K = op.shape.head_width, H = op.shape.heads, G = op.shape.kv_heads;
  const int query_tiles = map.query_tiles(), key_tiles = (T + kTileKeys - 1) / kTileKeys;
  const int units = op.shape.sequences * G;
  const int workers = threads_for(std::int64_t{op.shape.sequences} * H * T * T);

  const int rounds = (units + workers - 1) / workers;
  constexpr double kSecondPassPrice = 1.4;  // 7 products against 5
  const bool whole_heads = rounds * workers <= units * kSecondPassPrice;

  if (whole_heads) {
#pragma omp parallel for schedule(dynamic) num_threads(workers)
    for (int unit = 0; unit < units; ++unit) {
      const int b = unit / G, g = unit % G;
      zero(op.dk_SGK, map.key_row(b, 0), T, g * K, K);
      zero(op.dv_SGK, map.key_row(b, 0), T, g * K, K);
      const KeyRange heads = heads_of(map, H, g);
      for (int h = heads.begin; h < heads.end; ++h) {
        zero(op.dq_NHK, map.query_row(b, 0), T, h * K, K);
        for (int t0 = 0; t0 < T; t0 += kTileQueries) {
          const GradTile tile(op, map, b, h, t0, workspace());
          for (int s0 = 0; s0 < T; s0 += kTileKeys) tile.add(s0, Wanted::kAll);
        }
      }
    }
    return;
  }

  const std::int64_t query_items = std::int64_t{op.shape.sequences} * H * query_tiles;
#pragma omp parallel for schedule(dynamic) num_threads(workers)
  for (std::int64_t item = 0; item < query_items; ++item) {
    const int b = static_cast<int>(item / query_tiles / H), h = static_cast<int>(item / query_tiles % H);
    const int t0 = static_cast<int>(item % query_tiles) * kTileQueries;
    zero(op.dq_NHK, map.query_row(b, t0), std::min(kTileQueries, T - t0), h * K, K);
    const GradTile tile(op, map, b, h, t0, workspace());
    for (int s0 = 0; s0 < T; s0 += kTileKeys) tile.add(s0, Wanted::kQueries);
  }
  const std::int64_t key_items = std::int64_t{units} * key_tiles;
#pragma omp parallel for schedule(dynamic) num_threads(workers)
  for (std::int64_t item = 0; item < key_items; ++item) {
    const int b = static_cast<int>(item / key_tiles / G), g = static_cast<int>(item / key_tiles % G);
    const int s0 = static_cast<int>(item % key_tiles) * kTileKeys;
    zero(op.dk_SGK, map.key_row(b, s0), std::min(kTileKeys, T - s0), g * K, K);
    zero(op.dv_SGK, map.key_row(b, s0), std::min(kTileKeys, T - s0), g * K, K);
    const KeyRange heads = heads_of(map, H, g);
    for (int h = heads.begin; h < heads.end; ++h)
      for (int t0 = s0 / kTileQueries * kTileQueries; t0 < T; t0 += kTileQueries)
        GradTile(op, map, b, h, t0, workspace()).add(s0, Wanted::kKeys);
  }
}

}  // namespace slipway::cpu
