// Where work is queued: nothing on a CPU, a CUDA stream on a GPU.
#pragma once

namespace slipway {

/// The queue that an op runs in. On the CPU ops finish before they return.
struct Stream {
  void* handle = nullptr;  ///< for kernels/cuda a CudaStream, null: the main one; unused by kernels/cpu
};

}  // namespace slipway
