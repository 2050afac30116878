// Linear layers whose weights are in the arena, and their low-rank addends: forward matmuls and both gradients, in the
// compute type.
#pragma once

#include <span>

#include "kernels/backend/backend.hpp"
#include "src/model/layers/scratch.hpp"
#include "src/model/parameters.hpp"

namespace slipway {

/// LoRA: `scale * (x A^T) B^T`, which is added to the output of a linear layer. Shapes: A [rank, I], B [O, rank].
///
/// Ranks    A is sharded as the weight's columns are, B as its rows are. What is replicated gets a gradient on every
///          tensor rank whose sum over them is the whole, as other replicated parameters do.
/// Source   Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, section 4.1.
struct LoraWeights {
  Parameters::Handle a = -1;
  Parameters::Handle b = -1;
  int rank = 0;  ///< 0: none
  float scale = 1;
};

/// `y = x W^T + b`, and LoRA where there is one. The weight is [O out, I in], as files keep it, and stored
/// in f32, bf16 or blocks of q8_0.
struct Linear {
  Parameters::Handle weight = -1;
  Parameters::Handle bias = -1;  ///< -1: none
  LoraWeights lora = {};
};

/// Layers with the same input; their outputs are concatenated along y's columns.
using Linears = std::initializer_list<Linear>;

/// Some outputs of a layer without a bias: rows [first, first + rows) of its weight.
struct WeightSlice {
  Parameters::Handle weight = -1;
  int first = 0;
  int rows = 0;
};

/// The matmuls of linear layers. Weights that are adjacent in the arena are multiplied as one matrix, in one matmul.
///
/// Shapes   x [R, I]; y, dy [R, sum of O_i]; dx [R, I].
/// Precision x and dy are in the parameters' compute type; sums are f32 in either case. LoRA is summed in
///          f32 before y and dx are rounded; `x A^T` and `dy B` are rounded to the compute type in between.
class LinearOps {
 public:
  /// `scratch` is what reserve_lora() reserved; layers without LoRA need none of it.
  LinearOps(const Backend& backend, Stream& stream, Parameters& parameters, Scratch& scratch)
      : backend_(backend), stream_(stream), parameters_(parameters), scratch_(scratch) {}

  /// y is f32 or of the compute type.
  void forward(const ConstTensorView& x_RI, Linears layers, const TensorView& y_RO) const;
  /// `y = residual + x W^T`, without the bias.
  void forward_residual(const ConstTensorView& x_RI, Linear layer, Matrix<const float> addend_RO,
                        Matrix<float> y_RO) const;
  /// `dx = sum over i of dy_i W_i`. dx is f32, or of the compute type when there is one layer.
  void input_gradient(const ConstTensorView& dy_RO, Linears layers, const TensorView& dx_RI) const;
  /// `dW_i += dy_i^T x`, and dA_i and dB_i, of those that are trainable.
  void weight_gradient(const ConstTensorView& dy_RO, const ConstTensorView& x_RI, Linears layers) const;
  /// `db_i += sum over rows of dy_i`, where there is a bias that is trainable.
  void bias_gradient(const ConstTensorView& dy_RO, Linears layers) const;

  // The same for a part of a weight; `accumulate` adds to dx.
  void forward(const ConstTensorView& x_RI, WeightSlice slice, const TensorView& y_RO) const;
  void input_gradient(const ConstTensorView& dy_RO, WeightSlice slice, const TensorView& dx_RI, bool accumulate) const;
  void weight_gradient(const ConstTensorView& dy_RO, const ConstTensorView& x_RI, WeightSlice slice) const;

 private:
  ConstTensorView lora_projection(const ConstTensorView& rows, const LoraWeights& lora, Parameters::Handle factor,
                                  bool transpose) const;
  void add_lora(const ConstTensorView& x_RI, const LoraWeights& lora, const TensorView& y_RO) const;
  void lora_gradient(const ConstTensorView& dy_RO, const ConstTensorView& x_RI, const LoraWeights& lora) const;

  const Backend& backend_;
  Stream& stream_;
  Parameters& parameters_;
  Scratch& scratch_;
};

/// Reserves scratch memory for the low-rank addends of layers with the same input, if they have any: for passes of
/// `rows` rows, whose y or dx in the compute type has at most `width` columns.
void reserve_lora(Scratch& scratch, DType compute_dtype, int rows, Linears layers, int width);

}  // namespace slipway
