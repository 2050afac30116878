#include "kernels/body/cross_entropy.hpp"

#include "kernels/checks.hpp"
#include "kernels/cuda/ops.cuh"
#include "kernels/cuda/rows.cuh"

namespace slipway::cuda {
namespace {

template <class E>
struct SoftmaxPartialsRow {
  SoftmaxPartials op;
  template <class T>
  __device__ void operator()(const T& team, int r) const {
    const SoftmaxPartial partial = body::softmax_partial<E>(team, op, r);
    if (team.team_rank() == 0) op.partial_R[r] = partial;
  }
};

template <class E>
struct CrossEntropyGradRow {
  CrossEntropyGrad op;
  template <class T>
  __device__ void operator()(const T& team, int r) const {
    body::cross_entropy_grad<E>(team, op, r);
  }
};

__global__ void __launch_bounds__(kBlockThreads) merge_partials_kernel(const MergePartials op) {
  const int r = static_cast<int>(blockIdx.x) * kBlockThreads + static_cast<int>(threadIdx.x);
  if (r < op.rows) body::merge_partials(op, r);
}

__global__ void __launch_bounds__(kBlockThreads) weighted_sum_kernel(const WeightedSum op) {
  const Block team;
  const auto product = [](float x, float weight) { return static_cast<double>(weight) * static_cast<double>(x); };
  const double sum = team.sum(op.count, product, op.x_R, op.weight_R);
  if (team.team_rank() == 0) *op.result = sum;
}

}  // namespace

void softmax_partials(Stream& stream, const SoftmaxPartials& op) {
  check(op);
  const auto rows = [&]<class E>(Type<E>) {
    for_each_row("softmax_partials", stream, op.logits_RV.rows, op.logits_RV.cols, SoftmaxPartialsRow<E>{op});
  };
  if (op.exp_RV.data == nullptr) return rows(Type<void>{});
  dispatch_dtype(op.exp_RV.dtype, rows);
}

void merge_partials(Stream& stream, const MergePartials& op) {
  launch({.name = "merge_partials", .blocks = (op.rows + kBlockThreads - 1) / kBlockThreads, .threads = kBlockThreads},
         merge_partials_kernel, cuda_stream_of(stream).stream(), op);
}

void weighted_sum(Stream& stream, const WeightedSum& op) {
  launch({.name = "weighted_sum", .blocks = 1, .threads = kBlockThreads}, weighted_sum_kernel,
         cuda_stream_of(stream).stream(), op);
}

void cross_entropy_grad(Stream& stream, const CrossEntropyGrad& op) {
  dispatch_dtype(op.exp_RV.dtype, [&]<class E>(Type<E>) {
    for_each_row("cross_entropy_grad", stream, op.exp_RV.rows, op.exp_RV.cols, CrossEntropyGradRow<E>{op});
  });
}

}  // namespace slipway::cuda
