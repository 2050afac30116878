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
void run_synchronously(Stream& stream, const Op& op) {
  cuda_emulation::set_thread_order({kOrder, 7});
  kOp(stream, op);
  cuda::cuda_stream_of(stream).synchronize();
}

template <ThreadOrder::Kind kOrder>
const Backend* make_backend(const char* order, bool use_loops) {
  static Backend backend = {.name = "cuda", .instructions = order, .gemm_library = "cublaslt"};
#define SLIPWAY_OP(entry, Op) backend.entry = run_synchronously<kOrder, Op, cuda::entry>;
  SLIPWAY_EACH_OP(SLIPWAY_OP)
#undef SLIPWAY_OP
  if (use_loops) backend.gemm_library = "loops", backend.matmul = run_synchronously<kOrder, MatMul, cuda::matmul_loops>;
  return &backend;
}

}  // namespace

std::span<const Backend* const> backends_under_test() {
  cuda_emulation::treat_host_memory_as_managed();
  static const Backend* const backends[] = {make_backend<ThreadOrder::kAscending>("ascending", false),
                                            make_backend<ThreadOrder::kDescending>("descending", true),
                                            make_backend<ThreadOrder::kShuffled>("shuffled", false)};
  return backends;
}

Stream stream_under_test() {
  static cuda::CudaStream stream;
  return {&stream};
}

}  // namespace slipway::testing_support
