#include "kernels/cuda/graph_capture.cuh"

#include "kernels/cuda/cuda_stream.cuh"
#include "kernels/cuda/memory.cuh"

namespace slipway::cuda {
namespace {

/// An instantiated graph, and the memory generation that it was captured in.
struct CapturedGraph {
  cudaGraphExec_t graph = nullptr;
  std::uint64_t generation = 0;
};

void begin() {
  check("cudaStreamBeginCapture", cudaStreamBeginCapture(main_stream().stream(), cudaStreamCaptureModeThreadLocal));
}

void* end() {
  cudaGraph_t captured = nullptr;
  check("cudaStreamEndCapture", cudaStreamEndCapture(main_stream().stream(), &captured));
  cudaGraphExec_t graph = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&graph, captured, 0);
  cudaGraphDestroy(captured);
  check("cudaGraphInstantiate", status);
  return new CapturedGraph{graph, memory_generation()};
}

void cancel() noexcept {
  cudaGraph_t captured = nullptr;
  cudaStreamEndCapture(main_stream().stream(), &captured);
  if (captured != nullptr) cudaGraphDestroy(captured);
  cudaGetLastError();  // clears the error, which has been reported
}

bool replay(void* handle) {
  const auto& captured = *static_cast<const CapturedGraph*>(handle);
  if (captured.generation != memory_generation()) return false;
  check("cudaGraphLaunch", cudaGraphLaunch(captured.graph, main_stream().stream()));
  return true;
}

void destroy(void* handle) noexcept {
  auto* captured = static_cast<CapturedGraph*>(handle);
  cudaGraphExecDestroy(captured->graph);
  delete captured;
}

}  // namespace

const GraphCapture* graph_capture() {
  static const GraphCapture graphs{.begin = begin,
                                   .end = end,
                                   .cancel = cancel,
                                   .replay = replay,
                                   .destroy = destroy,
                                   .generation = memory_generation};
  return &graphs;
}

}  // namespace slipway::cuda
