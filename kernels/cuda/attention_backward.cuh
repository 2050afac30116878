// The gradient of a score, shared by both passes of attention's backward pass.
#pragma once

#include "kernels/body/exp.hpp"
#include "kernels/cuda/attention_indexing.cuh"

namespace slipway::cuda {

/// The key range [first, end) of one query, and its softmax statistics.
struct QueryInfo {
  int first = 0, end = 0;
  float lse = 0.0f, delta = 0.0f;
  __device__ bool is_visible(int s) const { return s >= first && s < end; }
};
__device__ inline QueryInfo load_query_info(const AttentionGrad& op, const AttentionParams& params,
                                            const float* delta_NH, int b, int h, int t) {
  const std::int64_t n = params.query_row(b, t);
  return {params.key_start(b, t), params.end_key(t), op.lse_NH.row(n)[h], delta_NH[n * params.heads + h]};
}

/// A score's softmax weight and its gradient; both 0 where the key is masked.
struct ScoreGrad {
  float weight = 0.0f, dscore = 0.0f;
};
__device__ inline ScoreGrad score_grad(float score, float dweight, const QueryInfo& query, int s, float scale) {
  if (!query.is_visible(s)) return {};
  const float weight = body::exp(scale * score - query.lse);
  return {weight, weight * (dweight - query.delta)};
}

}  // namespace slipway::cuda
