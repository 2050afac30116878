// The row ops, attention and products of few rows, compiled for one instruction set (kernels/CMakeLists.txt compiles
// this folder's list of sources once for each of them). Only this function is visible outside the set's object file.
#include "kernels/cpu/ops.hpp"

namespace slipway::cpu {

KernelTable SLIPWAY_INSTRUCTIONS_TABLE() {
  return {
      .name = "cpu",
      .instructions = SLIPWAY_INSTRUCTIONS,
      .matmul = matmul,
      .matmul_quantized = matmul_quantized,
      .dequantize = dequantize,
      .rms_norm = rms_norm,
      .rms_norm_grad = rms_norm_grad,
      .rope = rope,
      .swiglu = swiglu,
      .swiglu_grad = swiglu_grad,
      .attention = attention,
      .attention_grad = attention_grad,
      .softmax_shares = softmax_shares,
      .join_shares = join_shares,
      .cross_entropy_grad = cross_entropy_grad,
      .embedding = embedding,
      .embedding_grad = embedding_grad,
      .add = add,
      .scale = scale,
      .add_bias = add_bias,
      .bias_grad = bias_grad,
      .copy = copy,
      .clear = clear,
      .to_bf16 = to_bf16,
      .adamw = adamw,
      .sum_squares = sum_squares,
      .first_non_finite = first_non_finite,
  };
}

}  // namespace slipway::cpu
