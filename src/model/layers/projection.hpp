// Linear layers between the residual stream and the inside of a layer, on any number of tensor ranks.
#pragma once

#include "src/model/layers/norm.hpp"

namespace slipway {

/// A norm's output as the input of a layer. Its rows are recomputed in the backward pass where they were not saved.
struct NormedRows {
  Norm norm;
  Matrix<const float> x_UD;
  TensorView normed_RD;
  bool saved = false;
};

/// The residual stream before and after a layer: `y = x + layer(norm(x))`.
struct Residual {
  Matrix<const float> x_UD;
  Matrix<float> y_UD;
};

// Into a layer: weights are sharded by rows (Megatron-LM's ColumnParallelLinear). The local rows of the norm's output
// are all-gathered in parts, and each part's matmul overlaps with the all-gather of the next.

/// `y = normed W^T + b`, for all rows. On return this rank has all rows of `normed`.
void project(const PassContext& pass, Linears layers, const NormedRows& input, const TensorView& y_RO);
/// Adds the gradients of the weights and biases, and returns the gradient of the norm's output, in scratch memory, with
/// its local rows reduced. Recomputing and gathering rows, and reducing the gradient, overlap with the two matmuls.
Matrix<float> project_grad(const PassContext& pass, Linears layers, const ConstTensorView& dy_RO,
                           const NormedRows& input);

// Out of a layer: weights are sharded by columns (RowParallelLinear); the ranks' sums are reduce-scattered.

/// `y = residual + x W^T + b`, for the local rows.
void project_to_residual(const PassContext& pass, Linear layer, const ConstTensorView& x_RI, const Residual& residual);
/// `dx = dy W`; `dy_RD` is the residual stream's gradient as an operand, whose local rows are gathered.
void project_to_residual_input_grad(const PassContext& pass, Linear layer, const TensorView& dy_RD,
                                    const TensorView& dx_RI);
/// `dW += dy^T x`, and the bias's gradient from `dy_f32_RD`, which is dy in f32. Call it after
/// project_to_residual_input_grad(), which gathers `dy_RD`.
void project_to_residual_weight_grad(const PassContext& pass, Linear layer, const TensorView& dy_RD,
                                     Matrix<const float> dy_f32_RD, const ConstTensorView& x_RI);

/// Scratch memory [R, width] for this rank's sums, before they are reduced over ranks.
Matrix<float> partial_sums(const PassContext& pass, int width);

/// Reserves scratch memory of the functions above for `rows` rows.
void reserve_projections(Scratch& scratch, int rows, int width, int tensor_parallel_size, bool training);

}  // namespace slipway
