// The CUDA backend on the CUDA emulation, once for each order of threads.
#include "kernels/cuda/cuda_stream.cuh"
#include "kernels/cuda/ops.cuh"
#include "kernels/cuda_emulation/memory.hpp"
#include "kernels/cuda_emulation/thread_blocks.hpp"
#include "tests/support/kernels_backends.hpp"

namespace slipway::testing_support {
namespace {

using cuda_emulation::ThreadOrder;

template <ThreadOrder::Kind kOrder, class Op, void (*kOp)(Stream&, const Op&)>
void finished(Stream& stream, const Op& op) {
  cuda_emulation::set_thread_order({kOrder, 7});
  kOp(stream, op);
  cuda::cuda_stream_of(stream).finish();
}

template <ThreadOrder::Kind kOrder>
const Backend* table(const char* order, bool loops) {
  static Backend one = {.name = "cuda", .instructions = order, .gemm_library = "cublaslt"};
#define SLIPWAY_OP(entry, Op) one.entry = finished<kOrder, Op, cuda::entry>;
  SLIPWAY_EACH_OP(SLIPWAY_OP)
#undef SLIPWAY_OP
  if (loops) one.gemm_library = "loops", one.matmul = finished<kOrder, MatMul, cuda::matmul_loops>;
  return &one;
}

}  // namespace

std::span<const Backend* const> backends_under_test() {
  cuda_emulation::treat_host_memory_as_managed();
  static const Backend* const all[] = {table<ThreadOrder::kAscending>("ascending", false),
                                       table<ThreadOrder::kDescending>("descending", true),
                                       table<ThreadOrder::kShuffled>("shuffled", false)};
  return all;
}

Stream stream_under_test() {
  static cuda::CudaStream queue;
  return {&queue};
}

}  // namespace slipway::testing_support
