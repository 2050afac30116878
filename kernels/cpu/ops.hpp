// The CPU backend's functions, as kernels/table.cpp lists them.
#pragma once

#include "kernels/table.hpp"

namespace slipway::cpu {

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
void matmul(Stream&, const MatMul& op);  ///< few rows of `x W^T` here, everything else by matmul_general
void matmul_quantized(Stream&, const MatMulQuantized& op);
void dequantize(Stream&, const Dequantize& op);

// The tables of this build's instruction sets (kernels/cpu/instructions.cpp).
KernelTable table_base();  ///< what everything is compiled for
#if defined(SLIPWAY_AVX512)
KernelTable table_avx512();
KernelTable table_avx512_bf16();
#endif

void matmul_general(Stream&, const MatMul& op);  ///< of any shape: oneDNN's where it was built in, else plain loops
void matmul_loops(Stream&, const MatMul& op);    ///< plain loops: the oracle of the others
std::string onednn_instructions();               ///< what oneDNN makes its code for: "AVX512_BF16"
std::string onednn_version();                    ///< "oneDNN 2.6.3"
void limit_onednn(std::string_view set);         ///< to the instructions of a table, before its first product
bool onednn_has_bf16();  ///< bf16 products run in hardware; only where SLIPWAY_ONEDNN is defined

}  // namespace slipway::cpu
