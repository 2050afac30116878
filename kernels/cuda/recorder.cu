#include "kernels/cuda/recorder.cuh"

#include "kernels/cuda/memory.cuh"
#include "kernels/cuda/queue.cuh"

namespace slipway::cuda {
namespace {

/// A graph that is ready to be queued.
struct Recording {
  cudaGraphExec_t graph = nullptr;
  std::uint64_t generation = 0;
};

void begin() {
  check("cudaStreamBeginCapture", cudaStreamBeginCapture(main_queue().stream(), cudaStreamCaptureModeThreadLocal));
}

void* end() {
  cudaGraph_t noted = nullptr;
  check("cudaStreamEndCapture", cudaStreamEndCapture(main_queue().stream(), &noted));
  cudaGraphExec_t graph = nullptr;
  const cudaError_t made = cudaGraphInstantiate(&graph, noted, 0);
  cudaGraphDestroy(noted);
  check("cudaGraphInstantiate", made);
  return new Recording{graph, memory_generation()};
}

void cancel() noexcept {
  cudaGraph_t noted = nullptr;
  cudaStreamEndCapture(main_queue().stream(), &noted);
  if (noted != nullptr) cudaGraphDestroy(noted);
  cudaGetLastError();  // what went wrong is told already
}

bool replay(void* recording) {
  const auto& one = *static_cast<const Recording*>(recording);
  if (one.generation != memory_generation()) return false;
  check("cudaGraphLaunch", cudaGraphLaunch(one.graph, main_queue().stream()));
  return true;
}

void drop(void* recording) noexcept {
  auto* one = static_cast<Recording*>(recording);
  cudaGraphExecDestroy(one->graph);
  delete one;
}

}  // namespace

const Recorder* recorder() {
  static const Recorder graphs{
      .begin = begin, .end = end, .cancel = cancel, .replay = replay, .drop = drop, .generation = memory_generation};
  return &graphs;
}

}  // namespace slipway::cuda
