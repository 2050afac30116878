// One decoder block: attention, then a gated feed-forward layer, each on a normalized copy of the residual stream.
#pragma once

#include "comm/group.hpp"
#include "kernels/table.hpp"
#include "src/model/divided_rows.hpp"
#include "src/model/parameters.hpp"
#include "src/model/products.hpp"
#include "src/model/recompute.hpp"
#include "src/model/state.hpp"
#include "src/model/tensor_split.hpp"

namespace slipway {

// Axes: R rows (sequences * tokens), U of them that are this rank's own (DividedRows), D model width, H query heads
// here, G key-value heads here, K head width, F feed-forward width here.

/// What every block of one pass shares: who computes, which rows, where they stand.
struct Pass {
  const KernelTable& kernels;
  Stream& stream;
  Products& products;
  Parameters& parameters;
  Group& tensor;
  DividedRows rows;
  Matrix<const float> cos_PJ, sin_PJ;
  AttentionShape attention;  ///< sequences, tokens and document starts; the block fills in its heads
  const int* position_R = nullptr;
  ModelState* state = nullptr;  ///< null in training: attention looks at this pass's rows only
};

// Projections of one input lie side by side in one matrix, q k v in `qkv` and gate up in `gate_up`, so that one product
// makes them all. Everything but the residual stream is in the compute type.

/// What forward leaves for backward; about (2 H + 2 G) K + 2 F numbers of the compute type a row and D floats an own
/// row; with `keeps_cheap` 2 D + F numbers more: what is cheap to make again.
struct BlockActivations {
  BlockActivations(const ModelDescription& model, const TensorSplit& split, DType compute, int rows, int own_rows,
                   bool keeps_cheap, MemorySpace& space);
  ActivationBuffer qkv_RC;     ///< C = (H + 2 G) K; q and k rotated, unless they have norms of their own
  ActivationBuffer turned_RC;  ///< then: q and k after norm and rotation, C = (H + G) K; else empty
  ActivationBuffer mixed_RHK;  ///< attention's output
  Buffer<float> lse_RH;
  Buffer<float> middle_UD;
  ActivationBuffer gate_up_RC;                                    ///< C = 2 F
  ActivationBuffer attention_normed_RD, ffn_normed_RD, gated_RF;  ///< empty where they are made again
};

/// What all blocks share, one after the other; the gradients only where a model trains.
struct BlockScratch {
  BlockScratch(const ModelDescription& model, const TensorSplit& split, DType compute, int rows, bool trains,
               MemorySpace& space);
  ActivationBuffer normed_RD, gated_RF;
  ActivationBuffer narrow_dx_RD;  ///< empty in f32
  ActivationBuffer dqkv_RC, dmixed_RHK, dgated_RF, dgate_up_RC;
  Buffer<float> partial_RD;   ///< sums over this rank's heads or columns, until the ranks' are joined
  Buffer<float> uncounted_D;  ///< a gain's gradient that another rank has, too

  /// Where whoever writes the residual stream's gradient leaves a copy in the compute type; nowhere in f32.
  Matrix<Bf16> narrow_room(int rows, int width) {
    return narrow_dx_RD.size() == 0 ? Matrix<Bf16>{} : narrow_dx_RD.matrix(rows, width).as<Bf16>();
  }
  /// The residual stream's gradient as products read it: that copy, or itself.
  Activation narrow(Matrix<float> dx_RD) {
    return narrow_dx_RD.size() == 0 ? Activation(dx_RD) : narrow_dx_RD.matrix(dx_RD.rows, dx_RD.cols);
  }
};

/// A norm of the residual stream.
struct Norm {
  Parameters::Handle gain = -1;
  float eps = 0;
};
/// Own rows of y are made from x.
void normalize(const Pass& pass, const Norm& norm, Matrix<const float> x_UD, const Activation& y_RD);

/// Own rows of dx, and their narrow copy where it is wanted, are made from x and own rows of dy.
struct NormGrad {
  Matrix<const float> x_UD;
  Matrix<const float> dy_RD;
  Matrix<float> dx_RD;
  Matrix<Bf16> narrow_dx_RD;
  bool accumulate = false;
};
void normalize_grad(const Pass& pass, const Norm& norm, const NormGrad& op, BlockScratch& scratch);

/// Block `layer` of a llama, qwen2 or qwen3 decoder:
/// `m = x + Attention(norm(x)) Wo`, `y = m + (silu(norm(m) Wg) * (norm(m) Wu)) Wd`.
///
/// Ranks    Collective over the tensor group: Wq, Wk, Wv, Wg, Wu are split by rows, Wo and Wd by columns; before each
/// the norms' rows are gathered, after each sums are joined (DividedRows).
class Block {
 public:
  /// Declares the block's parameters.
  Block(const ModelDescription& model, const TensorSplit& split, int layer, Parameters& parameters);

  /// Shapes   x, y [U, D]; y is not x.
  void forward(const Pass& pass, Matrix<const float> x_UD, BlockActivations& kept, BlockScratch& scratch,
               Matrix<float> y_UD) const;
  /// In own rows of `dx_RD` the gradient of y comes in and the gradient of x goes out, with their narrow copies in
  /// `scratch` (of block 0's x, none: nobody reads it).
  void backward(const Pass& pass, Matrix<const float> x_UD, BlockActivations& kept, BlockScratch& scratch,
                Matrix<float> dx_RD) const;

 private:
  /// Rows of q, k and v, as attention reads them; q and k lie side by side.
  struct Heads {
    Activation q_RHK, k_RGK, v_RGK;
    Activation qk_RC;  ///< both
  };
  Heads projected(Activation qkv_RC) const;
  Heads attended(BlockActivations& kept, int rows) const;
  void attend(const Pass& pass, BlockActivations& kept, int rows) const;
  void turn(const Pass& pass, const Heads& heads, bool inverse) const;
  /// `y = residual + x W^T` over all ranks, W divided by columns.
  void add_to_stream(const Pass& pass, Parameters::Handle map, const Operand& x_RI, BlockScratch& scratch,
                     Matrix<const float> residual_UD, Matrix<float> y_UD) const;
  void normed_product_grad(const Pass& pass, const Norm& norm, Matrix<const float> x_UD, Maps maps,
                           const Operand& dy_RC, ActivationBuffer& kept_normed_RD, BlockScratch& scratch) const;
  Norm attention_norm() const { return {at_.attn_norm, static_cast<float>(model_.norm_eps)}; }
  Norm ffn_norm() const { return {at_.ffn_norm, static_cast<float>(model_.norm_eps)}; }
  AttentionShape attention_shape(const Pass& pass) const;
  int q_width() const { return split_.heads.room * model_.head_width; }
  int kv_width() const { return split_.kv_heads.room * model_.head_width; }

  ModelDescription model_;
  TensorSplit split_;
  int layer_;
  struct Handles {
    Parameters::Handle attn_norm, q, k, v, output, ffn_norm, gate, up, down;
    Parameters::Handle q_bias = -1, k_bias = -1, v_bias = -1, q_norm = -1, k_norm = -1;
  } at_;
};

}  // namespace slipway
