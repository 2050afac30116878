// Linear layers whose weights are in the arena: forward matmuls and both gradients, in the compute type.
#pragma once

#include <span>

#include "kernels/table.hpp"
#include "src/model/parameters.hpp"

namespace slipway {

/// One or several linear layers with the same input, `y_i = x W_i^T`; their outputs are concatenated along y's columns.
/// Weights are [O out, I in], as files store them.
using Maps = std::initializer_list<Parameters::Handle>;

/// Some outputs of one map: rows [first, first + rows) of its weight.
struct WeightSlice {
  Parameters::Handle map = -1;
  int first = 0;
  int rows = 0;
};

/// Forward pass of linear layers, and the gradients of their inputs and weights. Weights that are adjacent in the arena
/// are multiplied as one matrix, in one matmul.
///
/// Shapes   x [R, I]; y, dy [R, sum of O_i]; dx [R, I].
/// Precision x and dy are in the parameters' compute type; sums are f32 in either case.
class Linear {
 public:
  Linear(const KernelTable& kernels, Stream& stream, Parameters& parameters)
      : kernels_(kernels), stream_(stream), parameters_(parameters) {}

  /// y is f32 or of the compute type.
  void forward(const Operand& x_RI, Maps maps, const Activation& y_RO) const;
  /// `y = addend + x W^T`.
  void forward_residual(const Operand& x_RI, Parameters::Handle map, Matrix<const float> addend_RO,
                        Matrix<float> y_RO) const;
  /// `dx = sum over i of dy_i W_i`. dx is f32, or of the compute type when there is one map.
  void input_gradient(const Operand& dy_RO, Maps maps, const Activation& dx_RI) const;
  /// `dW_i += dy_i^T x`.
  void weight_gradient(const Operand& dy_RO, const Operand& x_RI, Maps maps) const;

  // The same for a part of a map; `accumulate` adds to dx.
  void forward(const Operand& x_RI, WeightSlice part, const Activation& y_RO) const;
  void input_gradient(const Operand& dy_RO, WeightSlice part, const Activation& dx_RI, bool accumulate) const;
  void weight_gradient(const Operand& dy_RO, const Operand& x_RI, WeightSlice part) const;

 private:
  const KernelTable& kernels_;
  Stream& stream_;
  Parameters& parameters_;
};

}  // namespace slipway
