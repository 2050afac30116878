// One entry per op: what a backend offers.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/attention.hpp"
#include "kernels/cross_entropy.hpp"
#include "kernels/device_collectives.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/embedding.hpp"
#include "kernels/gemm_autotuner.hpp"
#include "kernels/graph_capture.hpp"
#include "kernels/matmul.hpp"
#include "kernels/optimizer.hpp"
#include "kernels/quantized.hpp"
#include "kernels/rms_norm.hpp"
#include "kernels/rope.hpp"
#include "kernels/sample.hpp"
#include "kernels/swiglu.hpp"

/// Every op, once: OP(table entry and backend function, op struct). A new op must be added here.
// clang-format off
#define SLIPWAY_EACH_OP(OP) \
  OP(matmul, MatMul) \
  OP(matmul_quantized, MatMulQuantized) \
  OP(dequantize, Dequantize) \
  OP(rms_norm, RmsNorm) \
  OP(rms_norm_grad, RmsNormGrad) \
  OP(rope, Rope) \
  OP(swiglu, Swiglu) \
  OP(swiglu_grad, SwigluGrad) \
  OP(attention, Attention) \
  OP(attention_grad, AttentionGrad) \
  OP(softmax_shares, SoftmaxShares) \
  OP(join_shares, JoinShares) \
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
  OP(muon_move, MuonMove) \
  OP(step_factor, StepFactor) \
  OP(normalize, Normalize) \
  OP(sum_squares, SumSquares) \
  OP(first_non_finite, FirstNonFinite)
// clang-format on

namespace slipway {

/// The ops of one backend, and its memory. Model code takes both from here and names no backend.
struct KernelTable {
  const char* name = "";                 ///< "cpu", "cuda"
  const char* instructions = "";         ///< "base" (what the build was compiled for), "avx512", "avx512_bf16", "sm_90"
  const char* products = "";             ///< what computes matrix products: "onednn", "cublaslt", "loops"
  const char* device = "cpu";            ///< as `--device` names it: "cpu", "cuda:0"
  bool native_bf16 = false;              ///< products of bf16 run in hardware, so `numerics.compute = auto` takes bf16
  MemorySpace* memory = &host_memory();  ///< where what the ops read and write lives
  const DeviceCollectives* messages = nullptr;  ///< between the memories of such devices; null: by way of the host
  const GraphCapture* recorder = nullptr;       ///< null: ops are queued one by one
  const GemmAutotuner* choices = nullptr;       ///< null: products have one algorithm for a shape
#define SLIPWAY_OP(entry, Op) void (*entry)(Stream&, const Op&) = nullptr;
  SLIPWAY_EACH_OP(SLIPWAY_OP)
#undef SLIPWAY_OP
};

/// The CPU backend with the instructions in force: oneDNN's products where it was built in, else plain loops.
const KernelTable& cpu_kernels();

/// Every backend that can run here, each instruction set of this CPU included: the subjects of the parity tests.
std::span<const KernelTable* const> all_tables();

/// Which instructions the CPU backend uses, oneDNN's products included: "auto" takes the best that this CPU has.
/// Call it before the first product; later calls reach the row ops alone.
/// Errors   Fault::kDevice when this CPU or this build lacks them, Fault::kConfig for another word; the sentence lists
///          what there is.
void set_instructions(std::string_view set);
std::vector<std::string_view> instruction_sets();  ///< what set_instructions takes here, "auto" first, then rising

/// What this CPU can do, as `doctor` prints it.
struct CpuFeatures {
  std::string model;  ///< "AMD EPYC ..."
  bool avx2 = false;
  bool avx512 = false;
  bool avx512_bf16 = false;
  bool amx_bf16 = false;
  std::string instructions;  ///< what this build and its products really use: equal bits need an equal one
  bool native_bf16 = false;  ///< as the tables of the CPU have it
};
CpuFeatures cpu_features();
/// Whether a signal handler may run while a matmul does: false for oneDNN before 3.11.2, whose f32 kernels use the
/// stack pointer for addresses in the heap (its issue 4845).
bool matmuls_are_signal_safe();
std::string gemm_library_version();  ///< of the library behind cpu_kernels().products: "oneDNN 2.6.3", or "plain loops"

/// Threads that each op may use, for this process. Cost: takes effect from the next op.
void set_threads(int threads);
int threads();

}  // namespace slipway
