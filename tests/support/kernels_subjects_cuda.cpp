// The CUDA backend on host lanes, once for each order of lanes.
#include "kernels/cuda/cuda_stream.cuh"
#include "kernels/cuda/ops.cuh"
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
  cuda::cuda_stream_of(stream).finish();
}

template <LaneOrder::Kind kOrder>
const KernelTable* table(const char* order, bool loops) {
  static KernelTable one = {.name = "cuda", .instructions = order, .products = "cublaslt"};
#define SLIPWAY_OP(entry, Op) one.entry = finished<kOrder, Op, cuda::entry>;
  SLIPWAY_EACH_OP(SLIPWAY_OP)
#undef SLIPWAY_OP
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
  static cuda::CudaStream queue;
  return {&queue};
}

}  // namespace slipway::testing_support
