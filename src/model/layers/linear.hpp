// Linear layers whose weights are in the arena: forward matmuls and both gradients, in the compute type.
#pragma once

#include <span>

#include "kernels/backend/backend.hpp"
#include "src/model/parameters.hpp"

namespace slipway {

/// `y = x W^T + b`. The weight is [O out, I in], as files keep it, and stored in f32, bf16 or blocks of q8_0.
struct Linear {
  Parameters::Handle weight = -1;
  Parameters::Handle bias = -1;  ///< -1: none
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
/// Precision x and dy are in the parameters' compute type; sums are f32 in either case.
class LinearOps {
 public:
  LinearOps(const Backend& backend, Stream& stream, Parameters& parameters)
      : backend_(backend), stream_(stream), parameters_(parameters) {}

  /// y is f32 or of the compute type.
  void forward(const ConstTensorView& x_RI, Linears layers, const TensorView& y_RO) const;
  /// `y = addend + x W^T`, without the bias.
  void forward_residual(const ConstTensorView& x_RI, Linear layer, Matrix<const float> addend_RO,
                        Matrix<float> y_RO) const;
  /// `dx = sum over i of dy_i W_i`. dx is f32, or of the compute type when there is one layer.
  void input_gradient(const ConstTensorView& dy_RO, Linears layers, const TensorView& dx_RI) const;
  /// `dW_i += dy_i^T x`, of the weights that are trainable.
  void weight_gradient(const ConstTensorView& dy_RO, const ConstTensorView& x_RI, Linears layers) const;
  /// `db_i += sum over rows of dy_i`, where there is a bias that is trainable.
  void bias_gradient(const ConstTensorView& dy_RO, Linears layers) const;

  // The same for a part of a weight; `accumulate` adds to dx.
  void forward(const ConstTensorView& x_RI, WeightSlice part, const TensorView& y_RO) const;
  void input_gradient(const ConstTensorView& dy_RO, WeightSlice part, const TensorView& dx_RI, bool accumulate) const;
  void weight_gradient(const ConstTensorView& dy_RO, const ConstTensorView& x_RI, WeightSlice part) const;

 private:
  const Backend& backend_;
  Stream& stream_;
  Parameters& parameters_;
};

}  // namespace slipway
