#include "kernels/checks.hpp"
#include "kernels/cuda/attention_bf16.cuh"
#include "kernels/cuda/attention_f32.cuh"
#include "kernels/cuda/ops.cuh"
#include "kernels/cuda/rows.cuh"

namespace slipway::cuda {
namespace {

// Two passes, each with its own rows' sums in registers, so that nothing is added by several blocks: one over queries
// for dq, one over keys for dk and dv. Scores are computed in both.

/// `delta[n,h] = sum over d of out[n,h,d] * dout[n,h,d]`: what the softmax's denominator gives back.
template <class E>
struct DeltaRow {
  Operand out_NHK, dout_NHK;
  float* delta_NH;
  int heads;
  template <class T>
  __device__ void operator()(const T& team, int item) const {
    const int n = item / heads, h = item % heads, K = out_NHK.cols / heads;
    const E* out_K = out_NHK.row<E>(n) + h * K;
    const E* dout_K = dout_NHK.row<E>(n) + h * K;
    const float delta = team.sum(
        K, [](float out, float dout) { return out * dout; }, out_K, dout_K);
    if (team.lane() == 0) delta_NH[item] = delta;
  }
};

/// Of one query: what it sees, and the numbers of its softmax.
struct SeenBy {
  int first = 0, end = 0;
  float lse = 0.0f, delta = 0.0f;
  __device__ bool sees(int s) const { return s >= first && s < end; }
};
__device__ SeenBy seen_by(const AttentionGrad& op, const AttentionPlaces& at, const float* delta_NH, int b, int h,
                          int t) {
  const std::int64_t n = at.query_row(b, t);
  return {at.first_key(b, t), at.end_key(t), op.lse_NH.row(n)[h], delta_NH[n * at.heads + h]};
}

/// A score's softmax weight and its gradient; both 0 where the key is not seen.
struct Back {
  float weight = 0.0f, dscore = 0.0f;
};
__device__ Back back_of(float product, float dweight, const SeenBy& query, int s, float scale) {
  if (!query.sees(s)) return {};
  const float weight = body::exp(scale * product - query.lse);
  return {weight, weight * (dweight - query.delta)};
}

constexpr int kOwnF32 = 2, kRowsF32 = f32::kWarps * kOwnF32;  // of a warp, and of a block

template <int kWidth>
__global__ void __launch_bounds__(f32::kLanes, f32::kBlocks)
    queries_f32(const AttentionGrad op, const AttentionPlaces at, const float* delta_NH, int tiles) {
  using namespace f32;
  using Tile = OtherTile<kWidth>;
  SLIPWAY_SHARED(float, q_memory, kRowsF32* kWidth);
  SLIPWAY_SHARED(float, dout_memory, kRowsF32* kWidth);
  SLIPWAY_SHARED(float, k_memory, kOthers* Tile::kStride);
  SLIPWAY_SHARED(float, v_memory, kOthers* Tile::kStride);
  const Tile k{k_memory}, v{v_memory};
  SLIPWAY_SHARED(float, weight_memory, kWarps* kOthers);
  float* const weights = weight_memory + threadIdx.x / kWarpLanes * kOthers;
  const AttentionSeat seat(static_cast<int>(blockIdx.x), at.heads, tiles);
  const int K = at.head_width, b = seat.sequence, h = seat.head, lane = static_cast<int>(threadIdx.x) % kWarpLanes;
  const int t0 = seat.tile * kRowsF32, count = min(kRowsF32, at.queries - t0);
  const int own = static_cast<int>(threadIdx.x) / kWarpLanes * kOwnF32;
  const std::int64_t n0 = at.query_row(b, t0), kv_col = std::int64_t{at.kv_head(h)} * K, q_col = std::int64_t{h} * K;
  load_rows(q_memory, kWidth, kRowsF32, op.q_NHK.row<float>(n0) + q_col, op.q_NHK.stride, count, K);
  load_rows(dout_memory, kWidth, kRowsF32, op.dout_NHK.row<float>(n0) + q_col, op.dout_NHK.stride, count, K);

  Columns<kWidth> dq[kOwnF32];
  const int begin = lowest_first_key(at, b, t0, t0 + count) / kOthers * kOthers, end = at.end_key(t0 + count - 1);
  for (int s0 = begin; s0 < end; s0 += kOthers) {
    const std::int64_t row = at.key_row(b, s0);
    const int keys = min(kOthers, at.keys - s0);
    __syncthreads();
    load_rows(k.rows, Tile::kStride, kOthers, op.k_SGK.row<float>(row) + kv_col, op.k_SGK.stride, keys, K);
    load_rows(v.rows, Tile::kStride, kOthers, op.v_SGK.row<float>(row) + kv_col, op.v_SGK.stride, keys, K);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kOwnF32; ++i) {
      if (own + i >= count) break;
      const SeenBy query = seen_by(op, at, delta_NH, b, h, t0 + own + i);
      const Back back = back_of(dot(q_memory + (own + i) * kWidth, k.row(lane), K),
                                dot(dout_memory + (own + i) * kWidth, v.row(lane), K), query, s0 + lane, at.scale);
      dq[i].add(back.dscore, weights, k, K);
    }
  }
#pragma unroll
  for (int i = 0; i < kOwnF32; ++i) {
    if (own + i >= count) break;
    dq[i].scale(at.scale);
    dq[i].write(op.dq_NHK.row<float>(n0 + own + i) + q_col, K);
  }
}

template <int kWidth>
__global__ void __launch_bounds__(f32::kLanes, f32::kBlocks)
    keys_f32(const AttentionGrad op, const AttentionPlaces at, const float* delta_NH, int tiles) {
  using namespace f32;
  using Tile = OtherTile<kWidth>;
  SLIPWAY_SHARED(float, k_memory, kRowsF32* kWidth);
  SLIPWAY_SHARED(float, v_memory, kRowsF32* kWidth);
  SLIPWAY_SHARED(float, q_memory, kOthers* Tile::kStride);
  SLIPWAY_SHARED(float, dout_memory, kOthers* Tile::kStride);
  const Tile q{q_memory}, dout{dout_memory};
  SLIPWAY_SHARED(float, weight_memory, kWarps* kOthers);
  float* const weights = weight_memory + threadIdx.x / kWarpLanes * kOthers;
  const AttentionSeat seat(static_cast<int>(blockIdx.x), at.kv_heads, tiles);
  const int K = at.head_width, b = seat.sequence, g = seat.head, lane = static_cast<int>(threadIdx.x) % kWarpLanes;
  const int s0 = seat.tile * kRowsF32, count = min(kRowsF32, at.keys - s0);
  const int own = static_cast<int>(threadIdx.x) / kWarpLanes * kOwnF32;
  const std::int64_t row0 = at.key_row(b, s0), kv_col = std::int64_t{g} * K;
  load_rows(k_memory, kWidth, kRowsF32, op.k_SGK.row<float>(row0) + kv_col, op.k_SGK.stride, count, K);
  load_rows(v_memory, kWidth, kRowsF32, op.v_SGK.row<float>(row0) + kv_col, op.v_SGK.stride, count, K);

  Columns<kWidth> dk[kOwnF32], dv[kOwnF32];
  for (int h = 0; h < at.heads; ++h) {
    if (at.kv_head(h) != g) continue;
    const std::int64_t q_col = std::int64_t{h} * K;
    for (int t0 = s0 / kOthers * kOthers; t0 < at.queries; t0 += kOthers) {
      const std::int64_t n0 = at.query_row(b, t0);
      const int queries = min(kOthers, at.queries - t0), t = t0 + lane;
      __syncthreads();
      load_rows(q.rows, Tile::kStride, kOthers, op.q_NHK.row<float>(n0) + q_col, op.q_NHK.stride, queries, K);
      load_rows(dout.rows, Tile::kStride, kOthers, op.dout_NHK.row<float>(n0) + q_col, op.dout_NHK.stride, queries, K);
      __syncthreads();
      const SeenBy query = t < at.queries ? seen_by(op, at, delta_NH, b, h, t) : SeenBy{};
#pragma unroll
      for (int i = 0; i < kOwnF32; ++i) {
        if (own + i >= count) break;
        const Back back = back_of(dot(k_memory + (own + i) * kWidth, q.row(lane), K),
                                  dot(v_memory + (own + i) * kWidth, dout.row(lane), K), query, s0 + own + i, at.scale);
        dv[i].add(back.weight, weights, dout, K);
        dk[i].add(back.dscore, weights, q, K);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kOwnF32; ++i) {
    if (own + i >= count) break;
    dk[i].scale(at.scale);
    dk[i].write(op.dk_SGK.row<float>(row0 + own + i) + kv_col, K);
    dv[i].write(op.dv_SGK.row<float>(row0 + own + i) + kv_col, K);
  }
}

/// Writes a warp's 16 x K sums, scaled, to the rows from `first` on that are below `count`.
template <int kWidth>
__device__ void write_rows(bf16::Sums<kWidth>& sums, float scale, const Activation& to, std::int64_t row0, int own,
                           int count, std::int64_t col0, int K) {
  sums.each([&](float& sum, int half, int col) {
    const int row = own + bf16::row_of_half(half);
    if (row < count && col < K) to.row<Bf16>(row0 + row)[col0 + col] = narrowed<Bf16>(scale * sum);
  });
}

template <int kWidth>
__global__ void __launch_bounds__(bf16::kLanes, bf16::kBlocks)
    queries_bf16(const AttentionGrad op, const AttentionPlaces at, const float* delta_NH, int tiles) {
  using namespace bf16;
  SLIPWAY_SHARED(uint4, k_memory, kRows * RowTile<kWidth>::kStride / 8);
  SLIPWAY_SHARED(uint4, v_memory, kRows * RowTile<kWidth>::kStride / 8);
  const RowTile<kWidth> k{reinterpret_cast<Bf16*>(k_memory)}, v{reinterpret_cast<Bf16*>(v_memory)};
  const AttentionSeat seat(static_cast<int>(blockIdx.x), at.heads, tiles);
  const int K = at.head_width, b = seat.sequence, h = seat.head;
  const int t0 = seat.tile * kRows, count = min(kRows, at.queries - t0);
  const int own = static_cast<int>(threadIdx.x) / kWarpLanes * 16;
  const std::int64_t n0 = at.query_row(b, t0), kv_col = std::int64_t{at.kv_head(h)} * K, q_col = std::int64_t{h} * K;

  LeftRows<kWidth> q, dout;
  k.load(kRows, op.q_NHK.row<Bf16>(n0) + q_col, op.q_NHK.stride, count, K);
  v.load(kRows, op.dout_NHK.row<Bf16>(n0) + q_col, op.dout_NHK.stride, count, K);
  __syncthreads();
  q.load(k, own);
  dout.load(v, own);

  SeenBy query[2];
#pragma unroll
  for (int half = 0; half < 2; ++half)
    if (const int row = own + row_of_half(half); row < count) query[half] = seen_by(op, at, delta_NH, b, h, t0 + row);
  Sums<kWidth> dq;
  const int begin = lowest_first_key(at, b, t0, t0 + count) / kRows * kRows, end = at.end_key(t0 + count - 1);
  for (int s0 = begin; s0 < end; s0 += kRows) {
    const std::int64_t row = at.key_row(b, s0);
    const int keys = min(kRows, at.keys - s0);
    __syncthreads();
    k.load(kRows, op.k_SGK.row<Bf16>(row) + kv_col, op.k_SGK.stride, keys, K);
    v.load(kRows, op.v_SGK.row<Bf16>(row) + kv_col, op.v_SGK.stride, keys, K);
    __syncthreads();
#pragma unroll
    for (int part = 0; part < kRows; part += kPart<kWidth>) {
      Sums<kPart<kWidth>> products, dweights;
      products.add_rows(q, k, part);
      dweights.add_rows(dout, v, part);
      products.each_with(dweights, [&](float& product, float& dweight, int half, int col) {
        product = back_of(product, dweight, query[half], s0 + part + col, at.scale).dscore;
      });
      dq.add_weighted(products, k, part);
    }
  }
  write_rows(dq, at.scale, op.dq_NHK, n0, own, count, q_col, K);
}

template <int kWidth>
__global__ void __launch_bounds__(bf16::kLanes, bf16::kBlocks)
    keys_bf16(const AttentionGrad op, const AttentionPlaces at, const float* delta_NH, int tiles) {
  using namespace bf16;
  SLIPWAY_SHARED(uint4, q_memory, kRows * RowTile<kWidth>::kStride / 8);
  SLIPWAY_SHARED(uint4, dout_memory, kRows * RowTile<kWidth>::kStride / 8);
  SLIPWAY_SHARED(SeenBy, queries, kRows);
  const RowTile<kWidth> q{reinterpret_cast<Bf16*>(q_memory)}, dout{reinterpret_cast<Bf16*>(dout_memory)};
  const AttentionSeat seat(static_cast<int>(blockIdx.x), at.kv_heads, tiles);
  const int K = at.head_width, b = seat.sequence, g = seat.head;
  const int s0 = seat.tile * kRows, count = min(kRows, at.keys - s0);
  const int own = static_cast<int>(threadIdx.x) / kWarpLanes * 16;
  const std::int64_t row0 = at.key_row(b, s0), kv_col = std::int64_t{g} * K;

  LeftRows<kWidth> k, v;
  q.load(kRows, op.k_SGK.row<Bf16>(row0) + kv_col, op.k_SGK.stride, count, K);
  dout.load(kRows, op.v_SGK.row<Bf16>(row0) + kv_col, op.v_SGK.stride, count, K);
  __syncthreads();
  k.load(q, own);
  v.load(dout, own);

  Sums<kWidth> dk, dv;
  for (int h = 0; h < at.heads; ++h) {
    if (at.kv_head(h) != g) continue;
    const std::int64_t q_col = std::int64_t{h} * K;
    for (int t0 = s0; t0 < at.queries; t0 += kRows) {
      const std::int64_t n0 = at.query_row(b, t0);
      const int others = min(kRows, at.queries - t0), t = static_cast<int>(threadIdx.x);
      __syncthreads();
      q.load(kRows, op.q_NHK.row<Bf16>(n0) + q_col, op.q_NHK.stride, others, K);
      dout.load(kRows, op.dout_NHK.row<Bf16>(n0) + q_col, op.dout_NHK.stride, others, K);
      if (t < kRows) queries[t] = t < others ? seen_by(op, at, delta_NH, b, h, t0 + t) : SeenBy{};
      __syncthreads();
#pragma unroll 1
      for (int part = 0; part < kRows; part += kPart<kWidth>) {
        Sums<kPart<kWidth>> products, dweights;
        products.add_rows(k, q, part);
        dweights.add_rows(v, dout, part);
        products.each_with(dweights, [&](float& product, float& dweight, int half, int col) {
          const Back back = back_of(product, dweight, queries[part + col], s0 + own + row_of_half(half), at.scale);
          product = back.weight;
          dweight = back.dscore;
        });
        dv.add_weighted(products, dout, part);
        dk.add_weighted(dweights, q, part);
      }
    }
  }
  write_rows(dk, at.scale, op.dk_SGK, row0, own, count, kv_col, K);
  write_rows(dv, 1.0f, op.dv_SGK, row0, own, count, kv_col, K);
}

}  // namespace

void attention_grad(Stream& stream, const AttentionGrad& op) {
  check(op);
  const AttentionPlaces at(op.shape);
  Queue& queue = queue_of(stream);
  const bool narrow = op.q_NHK.dtype == DType::kBf16;
  const int items = op.q_NHK.rows * at.heads;
  float* delta_NH = queue.scratch_of<float>(static_cast<std::size_t>(items));
  by_type(op.q_NHK.dtype, [&]<class E>(Type<E>) {
    each_row("attention_grad", stream, items, at.head_width, DeltaRow<E>{op.out_NHK, op.dout_NHK, delta_NH, at.heads});
  });
  const int rows = narrow ? bf16::kRows : kRowsF32, lanes = narrow ? bf16::kLanes : f32::kLanes,
            tiles = (at.queries + rows - 1) / rows;
  by_head_width(at.head_width, [&]<int kWidth>(Width<kWidth>) {
    const auto run = [&](auto kernel, int heads) {
      launch({.name = "attention_grad", .blocks = std::int64_t{at.sequences} * heads * tiles, .lanes = lanes}, kernel,
             queue.stream(), op, at, delta_NH, tiles);
    };
    run(narrow ? queries_bf16<kWidth> : queries_f32<kWidth>, at.heads);
    run(narrow ? keys_bf16<kWidth> : keys_f32<kWidth>, at.kv_heads);
  });
}

}  // namespace slipway::cuda
