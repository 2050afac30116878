// The CUDA backend on host lanes, once for each order of lanes.
#include "kernels/cuda/ops.cuh"
#include "kernels/cuda/queue.cuh"
#include "tests/support/cuda_on_host/lanes.hpp"
#include "tests/support/cuda_on_host/memory.hpp"
#include "tests/support/kernels_subjects.hpp"

namespace slipway::testing_support {
namespace {

using cuda_on_host::LaneOrder;

template <LaneOrder::Kind kOrder, class Op, void (*kOp)(Stream&, const Op&)>
void finished(Stream& stream, const Op& op) {
  cuda_on_host::set_lane_order({kOrder, 7});
  kOp(stream, op);
  cuda::queue_of(stream).finish();
}

template <LaneOrder::Kind kOrder>
const KernelTable* table(const char* order, bool loops) {
  static KernelTable one = {
      .name = "cuda",
      .instructions = order,
      .products = "cublaslt",
      .matmul = finished<kOrder, MatMul, cuda::matmul>,
      .matmul_quantized = finished<kOrder, MatMulQuantized, cuda::matmul_quantized>,
      .dequantize = finished<kOrder, Dequantize, cuda::dequantize>,
      .rms_norm = finished<kOrder, RmsNorm, cuda::rms_norm>,
      .rms_norm_grad = finished<kOrder, RmsNormGrad, cuda::rms_norm_grad>,
      .rope = finished<kOrder, Rope, cuda::rope>,
      .swiglu = finished<kOrder, Swiglu, cuda::swiglu>,
      .swiglu_grad = finished<kOrder, SwigluGrad, cuda::swiglu_grad>,
      .attention = finished<kOrder, Attention, cuda::attention>,
      .attention_grad = finished<kOrder, AttentionGrad, cuda::attention_grad>,
      .softmax_shares = finished<kOrder, SoftmaxShares, cuda::softmax_shares>,
      .join_shares = finished<kOrder, JoinShares, cuda::join_shares>,
      .cross_entropy_grad = finished<kOrder, CrossEntropyGrad, cuda::cross_entropy_grad>,
      .embedding = finished<kOrder, Embedding, cuda::embedding>,
      .embedding_grad = finished<kOrder, EmbeddingGrad, cuda::embedding_grad>,
      .add = finished<kOrder, Add, cuda::add>,
      .scale = finished<kOrder, Scale, cuda::scale>,
      .add_bias = finished<kOrder, AddBias, cuda::add_bias>,
      .bias_grad = finished<kOrder, BiasGrad, cuda::bias_grad>,
      .copy = finished<kOrder, Copy, cuda::copy>,
      .clear = finished<kOrder, Clear, cuda::clear>,
      .to_bf16 = finished<kOrder, ToBf16, cuda::to_bf16>,
      .adamw = finished<kOrder, AdamW, cuda::adamw>,
      .sum_squares = finished<kOrder, SumSquares, cuda::sum_squares>,
      .first_non_finite = finished<kOrder, FirstNonFinite, cuda::first_non_finite>,
  };
  if (loops) one.products = "loops", one.matmul = finished<kOrder, MatMul, cuda::matmul_loops>;
  return &one;
}

}  // namespace

std::span<const KernelTable* const> tables_under_test() {
  cuda_on_host::take_program_memory_as_managed();
  static const KernelTable* const all[] = {table<LaneOrder::kForward>("forward", false),
                                           table<LaneOrder::kBackward>("backward", true),
                                           table<LaneOrder::kShuffled>("shuffled", false)};
  return all;
}

Stream stream_under_test() {
  static cuda::Queue queue;
  return {&queue};
}

}  // namespace slipway::testing_support
