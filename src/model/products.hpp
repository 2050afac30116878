// Linear maps in the compute type: the one place where activations are narrowed to bf16.
#pragma once

#include "kernels/table.hpp"
#include "src/core/tensor.hpp"

namespace slipway {

/// `y = x W^T` and its two gradients. Weights are [O out, I in], as files store them.
///
/// Numbers  f32 weights multiply in f32; bf16 weights make the activations bf16 too; sums are f32 in either case.
class Products {
 public:
  Products(const KernelTable& kernels, Stream& stream) : kernels_(kernels), stream_(stream) {}

  void forward(Matrix<const float> x_RI, const Operand& w_OI, Matrix<float> y_RO);
  /// dx = dy W, or dx += dy W.
  void input_gradient(Matrix<const float> dy_RO, const Operand& w_OI, Matrix<float> dx_RI, bool accumulate = false);
  /// dW += dy^T x, with operands in `compute`.
  void weight_gradient(Matrix<const float> dy_RO, Matrix<const float> x_RI, Matrix<float> dw_OI, DType compute);

 private:
  Operand narrow(Matrix<const float> x, DType dtype, Buffer<Bf16>& scratch);

  const KernelTable& kernels_;
  Stream& stream_;
  Buffer<Bf16> left_, right_;  // narrowed operands; they grow to the largest asked for
};

}  // namespace slipway
