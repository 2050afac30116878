// One decoder block: attention, then a gated feed-forward layer, each on a normalized copy of the residual stream.
#pragma once

#include "comm/group.hpp"
#include "kernels/table.hpp"
#include "src/model/linear.hpp"
#include "src/model/parameters.hpp"
#include "src/model/recompute.hpp"
#include "src/model/sequence_parallel.hpp"
#include "src/model/state.hpp"
#include "src/model/tensor_parallel_shard.hpp"

namespace slipway {

// Axes: R rows (sequences * tokens), U of them local to this rank (SequenceParallel), D model width, H query heads
// here, G key-value heads here, K head width, F feed-forward width here.

/// What all blocks of one pass share: backend, parameters, rows and their positions.
struct PassContext {
  const KernelTable& kernels;
  Stream& stream;
  Linear& linear;
  Parameters& parameters;
  Group& tensor;
  SequenceParallel rows;
  Matrix<const float> cos_PJ, sin_PJ;
  AttentionShape attention;  ///< sequences, tokens and document starts; the block fills in its heads
  const int* position_R = nullptr;
  ModelState* state = nullptr;  ///< null in training: attention looks at this pass's rows only
};

// Projections of one input are adjacent in one matrix, q k v in `qkv` and gate up in `gate_up`, so that one matmul
// computes them all. Everything but the residual stream is in the compute type.

/// Activations that forward saves for backward: about (2 H + 2 G) K + 2 F elements of the compute type per row and D
/// floats per local row; with `save_cheap_activations` 2 D + F elements more, which are cheap to recompute.
struct BlockActivations {
  BlockActivations(const ModelDescription& model, const TensorParallelShard& split, DType compute, int rows,
                   int shard_rows, bool save_cheap_activations, MemorySpace& space);
  ActivationBuffer qkv_RC;             ///< C = (H + 2 G) K; q and k rotated, unless they have norms of their own
  ActivationBuffer rotated_qk_RC;      ///< then: q and k after norm and rotation, C = (H + G) K; else empty
  ActivationBuffer attention_out_RHK;  ///< attention's output
  Buffer<float> lse_RH;
  Buffer<float> post_attention_UD;
  ActivationBuffer gate_up_RC;                                    ///< C = 2 F
  ActivationBuffer attention_normed_RD, ffn_normed_RD, gated_RF;  ///< empty where they are recomputed
};

/// Scratch buffers that all blocks use in turn; gradients are allocated only when the model is trained.
struct BlockScratch {
  BlockScratch(const ModelDescription& model, const TensorParallelShard& split, DType compute, int rows, bool trains,
               MemorySpace& space);
  ActivationBuffer normed_RD, gated_RF;
  ActivationBuffer dx_bf16_RD;  ///< empty in f32
  ActivationBuffer dqkv_RC, dattention_out_RHK, dgated_RF, dgate_up_RC;
  Buffer<float> partial_RD;         ///< sums over this rank's heads or columns, until the ranks' are joined
  Buffer<float> discarded_dgain_D;  ///< a gain's gradient that another rank contributes

  /// Where the op that writes the residual stream's gradient also writes a bf16 copy of it; empty in f32.
  Matrix<Bf16> dx_bf16_buffer(int rows, int width) {
    return dx_bf16_RD.size() == 0 ? Matrix<Bf16>{} : dx_bf16_RD.matrix(rows, width).as<Bf16>();
  }
  /// The residual stream's gradient as an operand of matmuls: the bf16 copy, or in f32 the gradient itself.
  Activation dx_operand(Matrix<float> dx_RD) {
    return dx_bf16_RD.size() == 0 ? Activation(dx_RD) : dx_bf16_RD.matrix(dx_RD.rows, dx_RD.cols);
  }
};

/// A norm of the residual stream.
struct Norm {
  Parameters::Handle gain = -1;
  float eps = 0;
};
/// Computes the local rows of y from x.
void normalize(const PassContext& pass, const Norm& norm, Matrix<const float> x_UD, const Activation& y_RD);

/// Computes the local rows of dx, and of their bf16 copy if one is given, from x and the local rows of dy.
struct NormGrad {
  Matrix<const float> x_UD;
  Matrix<const float> dy_RD;
  Matrix<float> dx_RD;
  Matrix<Bf16> dx_bf16_RD;
  bool accumulate = false;
};
void normalize_grad(const PassContext& pass, const Norm& norm, const NormGrad& op, BlockScratch& scratch);

/// Block `layer` of a llama, qwen2 or qwen3 decoder:
/// `m = x + Attention(norm(x)) Wo`, `y = m + (silu(norm(m) Wg) * (norm(m) Wu)) Wd`.
///
/// Ranks    collective over the tensor group: Wq, Wk, Wv, Wg and Wu are sharded by rows, Wo and Wd by columns. The
///          norms' outputs are all-gathered before the former, the latter's sums reduce-scattered (SequenceParallel).
class Block {
 public:
  /// Declares the block's parameters.
  Block(const ModelDescription& model, const TensorParallelShard& split, int layer, Parameters& parameters);

  /// Shapes   x, y [U, D]; y is not x.
  void forward(const PassContext& pass, Matrix<const float> x_UD, BlockActivations& saved, BlockScratch& scratch,
               Matrix<float> y_UD) const;
  /// On entry the local rows of `dx_RD` hold the gradient of y, on return the gradient of x; their bf16 copies are in
  /// `scratch` (none for the x of block 0, since nothing reads it).
  void backward(const PassContext& pass, Matrix<const float> x_UD, BlockActivations& saved, BlockScratch& scratch,
                Matrix<float> dx_RD) const;

 private:
  /// Rows of q, k and v, as attention reads them; q and k lie side by side.
  struct Heads {
    Activation q_RHK, k_RGK, v_RGK;
    Activation qk_RC;  ///< both
  };
  Heads qkv_heads(Activation qkv_RC) const;
  Heads attention_inputs(BlockActivations& saved, int rows) const;
  void attend(const PassContext& pass, BlockActivations& saved, int rows) const;
  void apply_rope(const PassContext& pass, const Heads& heads, bool inverse) const;
  /// `y = residual + x W^T` over all ranks, W divided by columns.
  void project_and_add_residual(const PassContext& pass, Parameters::Handle map, const Operand& x_RI,
                                BlockScratch& scratch, Matrix<const float> residual_UD, Matrix<float> y_UD) const;
  void normed_linear_grad(const PassContext& pass, const Norm& norm, Matrix<const float> x_UD, Maps maps,
                          const Operand& dy_RC, ActivationBuffer& saved_normed_RD, BlockScratch& scratch) const;
  Norm attention_norm() const { return {handles_.attn_norm, static_cast<float>(model_.norm_eps)}; }
  Norm ffn_norm() const { return {handles_.ffn_norm, static_cast<float>(model_.norm_eps)}; }
  AttentionShape attention_shape(const PassContext& pass) const;
  int q_width() const { return split_.heads.padded_size * model_.head_width; }
  int kv_width() const { return split_.kv_heads.padded_size * model_.head_width; }

  ModelDescription model_;
  TensorParallelShard split_;
  int layer_;
  struct Handles {
    Parameters::Handle attn_norm, q, k, v, output, ffn_norm, gate, up, down;
    Parameters::Handle q_bias = -1, k_bias = -1, v_bias = -1, q_norm = -1, k_norm = -1;
  } handles_;
};

}  // namespace slipway
