#include "kernels/cuda/graph_capture.cuh"

#include "kernels/cuda/cuda_stream.cuh"
#include "kernels/cuda/memory.cuh"

namespace slipway::cuda {
namespace {

/// A graph that is ready to be queued.
struct CapturedGraph {
  cudaGraphExec_t graph = nullptr;
  std::uint64_t generation = 0;
};

void begin() {
  check("cudaStreamBeginCapture", cudaStreamBeginCapture(main_stream().stream(), cudaStreamCaptureModeThreadLocal));
}

void* end() {
  cudaGraph_t noted = nullptr;
  check("cudaStreamEndCapture", cudaStreamEndCapture(main_stream().stream(), &noted));
  cudaGraphExec_t graph = nullptr;
  const cudaError_t made = cudaGraphInstantiate(&graph, noted, 0);
  cudaGraphDestroy(noted);
  check("cudaGraphInstantiate", made);
  return new CapturedGraph{graph, memory_generation()};
}

void cancel() noexcept {
  cudaGraph_t noted = nullptr;
  cudaStreamEndCapture(main_stream().stream(), &noted);
  if (noted != nullptr) cudaGraphDestroy(noted);
  cudaGetLastError();  // what went wrong is told already
}

bool replay(void* recording) {
  const auto& one = *static_cast<const CapturedGraph*>(recording);
  if (one.generation != memory_generation()) return false;
  check("cudaGraphLaunch", cudaGraphLaunch(one.graph, main_stream().stream()));
  return true;
}

void drop(void* recording) noexcept {
  auto* one = static_cast<CapturedGraph*>(recording);
  cudaGraphExecDestroy(one->graph);
  delete one;
}

}  // namespace

const GraphCapture* graph_capture() {
  static const GraphCapture graphs{
      .begin = begin, .end = end, .cancel = cancel, .replay = replay, .drop = drop, .generation = memory_generation};
  return &graphs;
}

}  // namespace slipway::cuda
