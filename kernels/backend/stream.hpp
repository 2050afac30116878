// Where work is queued, and by how many threads a CPU does it.
#pragma once

namespace slipway {

/// The queue that an op runs in. On the CPU ops finish before they return.
struct Stream {
  void* handle = nullptr;  ///< for kernels/cuda a CudaStream, null: the main one; unused by kernels/cpu
  int threads = 0;         ///< that an op of kernels/cpu may use; 0: as many as OpenMP offers
};

}  // namespace slipway
