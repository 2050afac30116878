#include "kernels/checks.hpp"
#include "kernels/cuda/attention_grad_bf16.cuh"
#include "kernels/cuda/attention_grad_f32.cuh"
#include "kernels/cuda/ops.cuh"
#include "kernels/cuda/rows.cuh"

namespace slipway::cuda {
namespace {

// Two passes, one over queries for dq and one over keys for dk and dv, each with the sums of its rows in registers, so
// that no element is written by several blocks. Both compute the scores.

/// `delta[n,h] = sum over d of out[n,h,d] * dout[n,h,d]`.
template <class E>
struct DeltaRow {
  ConstTensorView out_NHK, dout_NHK;
  float* delta_NH;
  int heads;
  template <class T>
  __device__ void operator()(const T& team, int item) const {
    const int n = item / heads, h = item % heads, K = out_NHK.cols / heads;
    const E* out_K = out_NHK.row<E>(n) + h * K;
    const E* dout_K = dout_NHK.row<E>(n) + h * K;
    const float delta = team.sum(
        K, [](float out, float dout) { return out * dout; }, out_K, dout_K);
    if (team.team_rank() == 0) delta_NH[item] = delta;
  }
};

}  // namespace

void attention_grad(Stream& stream, const AttentionGrad& op) {
  check(op);
  const AttentionParams params(op.shape);
  CudaStream& queue = cuda_stream_of(stream);
  const bool is_bf16 = op.q_NHK.dtype == DType::kBf16;
  const int items = op.q_NHK.rows * params.heads;
  float* delta_NH = queue.scratch_for<float>(op);
  dispatch_dtype(op.q_NHK.dtype, [&]<class E>(Type<E>) {
    for_each_row("attention_grad", stream, items, params.head_width,
                 DeltaRow<E>{op.out_NHK, op.dout_NHK, delta_NH, params.heads});
  });
  const int rows = is_bf16 ? bf16::kRows : kRowsF32, threads = is_bf16 ? bf16::kThreads : f32::kThreads,
            tiles = (params.queries + rows - 1) / rows;
  dispatch_head_width(params.head_width, [&]<int kWidth>(Width<kWidth>) {
    const auto run = [&](auto kernel, int heads) {
      launch({.name = "attention_grad", .blocks = std::int64_t{params.sequences} * heads * tiles, .threads = threads},
             kernel, queue.stream(), op, params, delta_NH, tiles);
    };
    run(is_bf16 ? attention_dq_bf16<kWidth> : attention_dq_f32<kWidth>, params.heads);
    run(is_bf16 ? attention_dkdv_bf16<kWidth> : attention_dkdv_f32<kWidth>, params.kv_heads);
  });
}

}  // namespace slipway::cuda
