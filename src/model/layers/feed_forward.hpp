// Feed-forward layers: SwiGLU, or GELU between two linear layers.
#pragma once

#include "src/model/layers/layer.hpp"
#include "src/model/layers/parameter_builder.hpp"

namespace slipway {

/// `y = x + (silu(norm(x) Wg) * (norm(x) Wu)) Wd`, or `y = x + gelu(norm(x) Wu) Wd`.
///
/// Ranks    Wg and Wu are sharded by rows, Wd by columns.
class FeedForwardLayer : public Layer {
 public:
  /// Declares the parameters of layer `layer`.
  FeedForwardLayer(const ModelSpec& model, FeedForwardKind kind, const TensorParallelShard& shard, int layer,
                   Parameters& parameters, const LoraOptions& lora);

  std::unique_ptr<LayerActivations> make_activations(const ActivationSizes& sizes) const override;
  void reserve_scratch(Scratch& scratch, const ActivationSizes& sizes) const override;
  std::unique_ptr<LayerState> make_state(int, int, DType, MemorySpace&) const override { return nullptr; }
  void forward(const PassContext& pass, const NormedRows& input, LayerActivations& saved, LayerState* state,
               const Residual& residual) const override;
  Matrix<float> backward(const PassContext& pass, const ResidualGrad& dy, const NormedRows& input,
                         LayerActivations& saved) const override;
  double sequence_flops(double) const override { return 0; }

 private:
  struct Saved;
  bool is_gated() const { return kind_ == FeedForwardKind::kSwiglu; }
  int input_width() const { return is_gated() ? 2 * width_ : width_; }
  TensorView activated(const PassContext& pass, Saved& saved) const;
  void activate_grad(const PassContext& pass, const TensorView& hidden, const TensorView& dactivated,
                     const TensorView& dhidden, const TensorView& recomputed) const;

  FeedForwardKind kind_;
  int width_;  // of this rank's shard, with padding
  Linear gate_, up_, down_;
};

}  // namespace slipway
