// Where work is queued: nothing on a CPU, a CUDA stream on a GPU.
#pragma once

namespace slipway {

/// The queue that an op runs in. On the CPU ops finish before they return.
struct Stream {
  void* handle = nullptr;  ///< a cudaStream_t for kernels/cuda; unused by kernels/cpu
};

}  // namespace slipway
