// The CUDA backend's functions. Every pointer of an op is to device memory.
#pragma once

#include "kernels/table.hpp"

namespace slipway::cuda {

void matmul(Stream&, const MatMul& op);  ///< few rows of `x W^T` here, everything else by cublasLt
void matmul_cublaslt(Stream&, const MatMul& op);
void matmul_loops(Stream&, const MatMul& op);  ///< plain loops: the oracle of the others
void matmul_quantized(Stream&, const MatMulQuantized& op);
void dequantize(Stream&, const Dequantize& op);
void rms_norm(Stream&, const RmsNorm& op);
void rms_norm_grad(Stream&, const RmsNormGrad& op);
void rope(Stream&, const Rope& op);
void swiglu(Stream&, const Swiglu& op);
void swiglu_grad(Stream&, const SwigluGrad& op);
void attention(Stream&, const Attention& op);
void attention_grad(Stream&, const AttentionGrad& op);
void softmax_shares(Stream&, const SoftmaxShares& op);
void join_shares(Stream&, const JoinShares& op);
void cross_entropy_grad(Stream&, const CrossEntropyGrad& op);
void embedding(Stream&, const Embedding& op);
void embedding_grad(Stream&, const EmbeddingGrad& op);
void add(Stream&, const Add& op);
void scale(Stream&, const Scale& op);
void add_bias(Stream&, const AddBias& op);
void bias_grad(Stream&, const BiasGrad& op);
void copy(Stream&, const Copy& op);
void clear(Stream&, const Clear& op);
void to_bf16(Stream&, const ToBf16& op);
void adamw(Stream&, const AdamW& op);
void sum_squares(Stream&, const SumSquares& op);
void first_non_finite(Stream&, const FirstNonFinite& op);

}  // namespace slipway::cuda
