// A backend: the ops that model code calls, and the memory that they compute in.
#pragma once

#include "kernels/attention.hpp"
#include "kernels/backend/device_collectives.hpp"
#include "kernels/backend/gemm_autotuner.hpp"
#include "kernels/backend/graph_capture.hpp"
#include "kernels/cross_entropy.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/embedding.hpp"
#include "kernels/gelu.hpp"
#include "kernels/layer_norm.hpp"
#include "kernels/matmul.hpp"
#include "kernels/optimizer.hpp"
#include "kernels/quantized.hpp"
#include "kernels/rms_norm.hpp"
#include "kernels/rope.hpp"
#include "kernels/sample.hpp"
#include "kernels/swiglu.hpp"

/// Every op, once: OP(member of Backend and function of each backend, op struct). A new op must be added here.
// clang-format off
#define SLIPWAY_EACH_OP(OP) \
  OP(matmul, MatMul) \
  OP(matmul_quantized, MatMulQuantized) \
  OP(dequantize, Dequantize) \
  OP(rms_norm, RmsNorm) \
  OP(rms_norm_grad, RmsNormGrad) \
  OP(layer_norm, LayerNorm) \
  OP(layer_norm_grad, LayerNormGrad) \
  OP(rope, Rope) \
  OP(swiglu, Swiglu) \
  OP(swiglu_grad, SwigluGrad) \
  OP(gelu, Gelu) \
  OP(gelu_grad, GeluGrad) \
  OP(attention, Attention) \
  OP(attention_grad, AttentionGrad) \
  OP(softmax_partials, SoftmaxPartials) \
  OP(merge_partials, MergePartials) \
  OP(cross_entropy_grad, CrossEntropyGrad) \
  OP(sample, Sample) \
  OP(embedding, Embedding) \
  OP(embedding_grad, EmbeddingGrad) \
  OP(add, Add) \
  OP(scale, Scale) \
  OP(add_bias, AddBias) \
  OP(bias_grad, BiasGrad) \
  OP(copy, Copy) \
  OP(clear, Clear) \
  OP(to_bf16, ToBf16) \
  OP(weighted_sum, WeightedSum) \
  OP(adamw, AdamW) \
  OP(muon_momentum, MuonMomentum) \
  OP(muon_update, MuonUpdate) \
  OP(clip_coef, ClipCoef) \
  OP(normalize, Normalize) \
  OP(sum_squares, SumSquares) \
  OP(first_non_finite, FirstNonFinite)
// clang-format on

namespace slipway {

/// The ops of one device and what goes with them. Model code takes all of it from here and names no device.
struct Backend {
  const char* name = "";                 ///< "cpu", "cuda"
  const char* instructions = "";         ///< "base" (what the build was compiled for), "avx512", "avx512_bf16", "sm_90"
  const char* gemm_library = "";         ///< what computes matmuls: "onednn", "cublaslt", "loops"
  const char* device = "cpu";            ///< as `--device` names it: "cpu", "cuda:0"
  bool native_bf16 = false;              ///< matmuls of bf16 run in hardware, so `numerics.compute = auto` takes bf16
  int threads = 0;                       ///< the most that an op may use on a CPU; 0: as many as OpenMP offers
  MemorySpace* memory = &host_memory();  ///< where what the ops read and write lives
  const DeviceCollectives* collectives = nullptr;  ///< directly on device memory (NCCL); null: staged through the host
  const GraphCapture* graph_capture = nullptr;     ///< null: ops are queued one by one
  const GemmAutotuner* autotuner = nullptr;        ///< null: a matmul has one algorithm for a shape
#define SLIPWAY_OP(op_name, Op) void (*op_name)(Stream&, const Op&) = nullptr;
  SLIPWAY_EACH_OP(SLIPWAY_OP)
#undef SLIPWAY_OP

  Stream main_stream() const { return {.threads = threads}; }  ///< the default stream of ops
};

}  // namespace slipway
