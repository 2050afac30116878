// The interface of attention and feed-forward layers, which read a norm's output and add to the residual stream.
#pragma once

#include <memory>

#include "src/model/layers/projection.hpp"

namespace slipway {

/// What a forward pass saves for the backward pass; each layer has a type of its own.
struct LayerActivations {
  virtual ~LayerActivations() = default;
};

/// Sizes that buffers depend on.
struct ActivationSizes {
  DType compute_dtype = DType::kF32;
  int rows = 0;        ///< of a pass
  int local_rows = 0;  ///< of them on this tensor rank
  bool training = false;
  bool save_cheap = false;  ///< also save what is cheap to recompute
  MemorySpace* space = nullptr;
};

/// The residual stream's gradient: in f32, and as an operand of matmuls (a bf16 copy, or in f32 the same memory).
struct ResidualGrad {
  TensorView operand_RD;
  Matrix<const float> f32_RD;
};

/// A layer computes `y = x + f(norm(x))`. It declares its parameters when it is constructed.
///
/// Ranks    forward and backward are collective over the tensor group.
class Layer {
 public:
  Layer() = default;
  virtual ~Layer() = default;
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;

  virtual std::unique_ptr<LayerActivations> make_activations(const ActivationSizes& sizes) const = 0;
  virtual void reserve_scratch(Scratch& scratch, const ActivationSizes& sizes) const = 0;
  /// The state for B sequences of at most `capacity` tokens; null for a layer without state between tokens.
  virtual std::unique_ptr<LayerState> make_state(int sequences, int capacity, DType compute_dtype,
                                                 MemorySpace& space) const = 0;

  /// `state` is this layer's part of `pass.state`, which the rows of this pass are appended to; null in training.
  virtual void forward(const PassContext& pass, const NormedRows& input, LayerActivations& saved, LayerState* state,
                       const Residual& residual) const = 0;
  /// Adds the gradients of the layer's parameters. Returns the gradient of `input.normed_RD`, in its local rows.
  virtual Matrix<float> backward(const PassContext& pass, const ResidualGrad& dy, const NormedRows& input,
                                 LayerActivations& saved) const = 0;

  /// Operations on one sequence of T tokens, forward and backward, other than those of matmuls with weights.
  virtual double sequence_flops(double tokens) const = 0;
};

}  // namespace slipway
