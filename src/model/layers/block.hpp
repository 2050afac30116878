// One decoder block: a mixer, then a feed-forward layer, each on a normalized copy of the residual stream.
#pragma once

#include <memory>

#include "src/model/layers/layer.hpp"
#include "src/model/layers/parameter_builder.hpp"
#include "src/model/tensor_parallel_shard.hpp"

namespace slipway {

/// What forward saves for backward. Everything but the residual stream is in the compute type.
struct BlockActivations {
  std::unique_ptr<LayerActivations> mixer, feed_forward;
  Buffer<float> mixed_UD;                       ///< the residual stream after the mixer
  TensorBuffer mixer_normed_RD, ffn_normed_RD;  ///< empty where they are recomputed
};

/// `m = x + mixer(norm(x))`, `y = m + feed_forward(norm(m))`.
///
/// Ranks    collective over the tensor group.
class Block {
 public:
  /// Declares the block's parameters.
  Block(const ModelSpec& model, BlockKind kind, const TensorParallelShard& shard, int layer, Parameters& parameters,
        const LoraOptions& lora);

  BlockActivations make_activations(const ActivationSizes& sizes) const;
  void reserve_scratch(Scratch& scratch, const ActivationSizes& sizes) const;
  BlockState make_state(int sequences, int capacity, DType compute_dtype, MemorySpace& space) const;

  /// Appends the rows of the pass to the block's part of `pass.state`, where there is one.
  /// Shapes   x, y [U, D]; y is not x.
  void forward(const PassContext& pass, Matrix<const float> x_UD, BlockActivations& saved, Matrix<float> y_UD) const;
  /// On entry the local rows of `dx_RD` hold the gradient of y, on return the gradient of x; their bf16 copies are in
  /// scratch memory (none for the x of block 0, since nothing reads it).
  void backward(const PassContext& pass, Matrix<const float> x_UD, BlockActivations& saved, Matrix<float> dx_RD) const;

  BlockKind kind() const { return kind_; }
  double sequence_flops(double tokens) const {
    return mixer_->sequence_flops(tokens) + feed_forward_->sequence_flops(tokens);
  }

 private:
  NormedRows make_normed_rows(const PassContext& pass, const Norm& norm, Matrix<const float> x_UD,
                              TensorBuffer& saved_normed_RD) const;

  BlockKind kind_;
  int layer_, width_, tensor_parallel_size_;
  Norm mixer_norm_;
  std::unique_ptr<Layer> mixer_;
  Norm ffn_norm_;
  std::unique_ptr<Layer> feed_forward_;
};

/// Declares a norm of the residual stream: `name`.weight and, of LayerNorm, `name`.bias.
Norm declare_norm(const ModelSpec& model, const std::string& name, Parameters& parameters);

/// A bf16 copy of the residual stream's gradient in scratch memory; empty in f32.
Matrix<Bf16> residual_grad_bf16(const PassContext& pass, int width);

}  // namespace slipway
