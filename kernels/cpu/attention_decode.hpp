// Attention of a single query, for decoding: keys lie along the SIMD lanes, since a tile of queries would leave all
// lanes but one idle. Every sum has the terms and the order of attention.cpp, so the results are equal to the bit.
#pragma once

#include "kernels/cpu/attention_tile.hpp"

namespace slipway::cpu {

/// One thread's buffers for one query.
template <class E>
struct OneQueryWorkspace {
  Buffer<E> k_KS, v_SK;  ///< of a tile of keys; v only for bf16
  Buffer<float> out_K;
  Buffer<E> probs_S{kTileKeys};  ///< only for bf16
  alignas(64) float scores_S[kTileKeys];

  void begin(int K) {
    const std::size_t tile = static_cast<std::size_t>(K) * kTileKeys;
    k_KS.reserve(tile), v_SK.reserve(kVnniPacked<E> ? tile : 0);
    out_K.reserve(static_cast<std::size_t>(K));
    out_K.zero();
  }
};

/// Online softmax of one query.
struct OnlineSoftmax {
  float max = kMinusInfinity;
  float sum = 0.0f;
  float factor = 1.0f;  ///< rescales earlier sums to the new maximum

  /// Turns q k of the keys into exp(scale q k - maximum), and updates maximum, sum and factor.
  void add(KeyRange keys, float scale, float* scores_S) {
    const float old_max = max;
    float* first = scores_S + keys.begin;
    const int count = keys.end - keys.begin;
#pragma omp simd
    for (int s = 0; s < count; ++s) first[s] *= scale;
    for (int s = 0; s < count; ++s) max = first[s] > max ? first[s] : max;
    const float base = max == kMinusInfinity ? 0.0f : max;
    factor = body::exp(old_max - base);
    sum *= factor;
#pragma omp simd
    for (int s = 0; s < count; ++s) first[s] = body::exp(first[s] - base);
    for (int s = 0; s < count; ++s) sum += first[s];
  }
};

/// Attention of query t of one head of one sequence.
template <class E>
void attend_one_query(const Attention& op, const AttentionIndexing& indexing, int b, int h, int t,
                      OneQueryWorkspace<E>& work) {
  const int K = op.shape.head_width;
  const std::int64_t row = indexing.query_row(b, t), kv_col = std::int64_t{indexing.kv_head(h)} * K;
  const E* q_K = op.q_NHK.row<E>(row) + std::int64_t{h} * K;
  const KeyRange attended_keys{indexing.key_start(b, t), indexing.position(t) + 1};
  work.begin(K);
  OnlineSoftmax softmax;
  for (int s0 = attended_keys.begin / kTileKeys * kTileKeys; s0 < attended_keys.end; s0 += kTileKeys) {
    const KeyRange keys = KeyRange{0, kTileKeys}.intersect({attended_keys.begin - s0, attended_keys.end - s0}),
                   padded_keys = round_to_vnni<E>(keys);
    const auto rows = [&](const ConstTensorView& x) {
      return Rows<const E>{x.row<E>(indexing.key_row(b, s0)) + kv_col, x.stride};
    };
    transpose_rows<kTileKeys, E>(keys.end, K, rows(op.k_SGK), work.k_KS.data());
    tile_gemm<E>(1, (keys.end + kLanes - 1) / kLanes * kLanes, vnni_groups<E>(K), {q_K, 0, kVnniFactor<E>},
                 {work.k_KS.data(), kTileKeys * kVnniFactor<E>}, {work.scores_S, kTileKeys}, nullptr);
    softmax.add(keys, op.shape.scale, work.scores_S);
    std::fill(work.scores_S + padded_keys.begin, work.scores_S + keys.begin, 0.0f);  // the masked key of a bf16 pair
    std::fill(work.scores_S + keys.end, work.scores_S + padded_keys.end, 0.0f);
    const E* probs_S = nullptr;
    if constexpr (kVnniPacked<E>) {
      for (int s = 0; s < kTileKeys; s += kLanes) store_as_bf16(work.probs_S.data() + s, load(work.scores_S + s));
      probs_S = work.probs_S.data();
    } else {
      probs_S = work.scores_S;
    }
    const Rows<const E> v = pack_vnni_rows<E>(keys.end, K, rows(op.v_SGK), work.v_SK);
    tile_gemm<E>(1, K, vnni_groups<E>(padded_keys.end - padded_keys.begin),
                 {probs_S + padded_keys.begin, 0, kVnniFactor<E>}, v.from(padded_keys.begin / kVnniFactor<E>, 0),
                 {work.out_K.data(), K}, &softmax.factor);
  }
  finish_query<E>(op, row, h, work.out_K.data(), softmax.max, softmax.sum);
}

}  // namespace slipway::cpu
