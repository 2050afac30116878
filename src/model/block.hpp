// One decoder block: attention, then a gated feed-forward layer, each on a normalized copy of the residual stream.
#pragma once

#include "comm/group.hpp"
#include "kernels/table.hpp"
#include "src/model/parameters.hpp"
#include "src/model/products.hpp"
#include "src/model/state.hpp"
#include "src/model/tensor_split.hpp"

namespace slipway {

// Axes: R rows (sequences * tokens), D model width, H query heads here, G key-value heads here, K head width,
// F feed-forward width here.

/// What every block of one pass shares: who computes, which rows, where they stand.
struct Pass {
  const KernelTable& kernels;
  Stream& stream;
  Products& products;
  Parameters& parameters;
  Group& tensor;
  Matrix<const float> cos_PJ, sin_PJ;
  AttentionShape attention;  ///< sequences, tokens and document starts; the block fills in its heads
  const int* position_R = nullptr;
  ModelState* state = nullptr;  ///< null in training: attention looks at this pass's rows only
};

/// What forward leaves for backward; about 4 D + 2 (H + 2 G) K + 3 F floats a row.
struct BlockActivations {
  BlockActivations(const ModelDescription& model, const TensorSplit& split, int rows);
  Buffer<float> normed_RD, q_RHK, k_RGK, v_RGK;  ///< q and k after norm and rotation
  Buffer<float> raw_q_RHK, raw_k_RGK;            ///< before their norms; empty without q and k norms
  Buffer<float> mixed_RHK, lse_RH;               ///< attention's output, log-sum-exp
  Buffer<float> middle_RD, ffn_normed_RD, gate_RF, up_RF, gated_RF;
};

/// Scratch for backward, shared by all blocks.
struct BlockGradients {
  BlockGradients(const ModelDescription& model, const TensorSplit& split, int rows);
  Buffer<float> dnormed_RD, dq_RHK, dk_RGK, dv_RGK, dmixed_RHK, dgate_RF, dup_RF;
};

/// Block `layer` of a llama, qwen2 or qwen3 decoder:
/// `m = x + Attention(norm(x)) Wo`, `y = m + (silu(norm(m) Wg) * (norm(m) Wu)) Wd`.
///
/// Ranks    Collective over the tensor group: Wq, Wk, Wv, Wg, Wu are split by rows, Wo and Wd by columns; one sum after
/// each.
class Block {
 public:
  /// Declares the block's parameters.
  Block(const ModelDescription& model, const TensorSplit& split, int layer, Parameters& parameters);

  /// Shapes   x, y [R, D]; y is not x.
  void forward(const Pass& pass, Matrix<const float> x_RD, BlockActivations& kept, Matrix<float> y_RD) const;
  /// In `dx_RD` the gradient of y comes in and the gradient of x goes out.
  void backward(const Pass& pass, Matrix<const float> x_RD, BlockActivations& kept, BlockGradients& scratch,
                Matrix<float> dx_RD) const;

 private:
  void attend(const Pass& pass, BlockActivations& kept, int rows) const;
  AttentionShape attention_shape(const Pass& pass) const;

  ModelDescription model_;
  TensorSplit split_;
  int layer_;
  struct Handles {
    Parameters::Handle attn_norm, q, k, v, output, ffn_norm, gate, up, down;
    Parameters::Handle q_bias = -1, k_bias = -1, v_bias = -1, q_norm = -1, k_norm = -1;
  } at_;
};

}  // namespace slipway
