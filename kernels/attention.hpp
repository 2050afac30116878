// Causal attention with grouped heads and document boundaries, tiled so that no T x T matrix is ever stored.
#pragma once

#include "kernels/backend/stream.hpp"
#include "kernels/tensor_view.hpp"

namespace slipway {

/// The shape of both the forward and the backward pass. Sequence b has `queries` new rows and `keys` rows to attend to;
/// the last query is at the last key, so query t is at key position `t + keys - queries` (queries == keys in training).
/// Query head h attends to key-value head `(h + first_head) / queries_per_kv`, clamped to the last one (for padded
/// heads). In the suffixes below N is B*T (the rows R of model code), and S of k and v is B*key_rows.
struct AttentionShape {
  int sequences = 0;   ///< B
  int queries = 0;     ///< T, rows per sequence in q
  int keys = 0;        ///< S >= T, rows per sequence in k and v
  int key_rows = 0;    ///< rows from one sequence's first key to the next one's (>= keys in a cache); 0: `keys`
  int heads = 0;       ///< H, query heads of this rank
  int kv_heads = 0;    ///< G, key-value heads of this rank
  int head_width = 0;  ///< K
  int queries_per_kv = 1;
  int first_head = 0;  ///< index of query head 0 in the group of key-value head 0 (above 0 on some tensor ranks)
  float scale = 1.0f;  ///< multiplies q k; usually 1 / sqrt(K)
  /// First key position each query may see, [B * T], for attention inside each document; null: 0 everywhere.
  const int* key_start_BT = nullptr;
};

/// `out[t,h] = sum over s in [key_start[t], position(t)] of softmax_s(scale * q[t,h] . k[s]) v[s]`.
///
/// Shapes   q, out [B*T, H*K]; k, v [B*key_rows, G*K]; lse [B*T, H] (log-sum-exp of each query's scores).
/// Precision q, k, v, out all f32 or all bf16 (then softmax weights are rounded to bf16 before they multiply v); sums,
///          maximum and lse in f32; online softmax over tiles in order; each row's result does not depend on the batch
///          or on the number of threads.
/// Cost     4 * B * H * K * (unmasked query-key pairs) operations; tiles outside the mask are skipped.
/// Source   Dao et al., "FlashAttention", 2022; Dao, "FlashAttention-2", 2023.
struct Attention {
  AttentionShape shape;
  ConstTensorView q_NHK;
  ConstTensorView k_SGK;
  ConstTensorView v_SGK;
  TensorView out_NHK;
  Matrix<float> lse_NH;
};

/// Gradient of Attention, for queries == keys (training). Scores are recomputed from q, k and lse.
///
/// Shapes   as Attention; dq, dout [B*T, H*K]; dk, dv [B*S, G*K].
/// Precision all f32, or all but lse bf16 (weights and score gradients are then rounded to bf16 before they multiply);
///          sums in f32; the query heads of a group are added to dk and dv in order, whatever the number of threads.
/// Aliasing gradients overlap nothing.
struct AttentionGrad {
  AttentionShape shape;
  ConstTensorView q_NHK;
  ConstTensorView k_SGK;
  ConstTensorView v_SGK;
  ConstTensorView out_NHK;
  Matrix<const float> lse_NH;
  ConstTensorView dout_NHK;
  TensorView dq_NHK;
  TensorView dk_SGK;
  TensorView dv_SGK;
};

}  // namespace slipway
