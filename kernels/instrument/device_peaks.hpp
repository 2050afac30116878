// Measured peak matmul throughput and memory bandwidth of this rank's device: the denominators of MFU and the profile.
#pragma once

#include "kernels/backend/backend.hpp"

namespace slipway {

/// The peak rates that an op's rate is compared with, per second.
struct DevicePeaks {
  double flops = 0;  ///< of the best matmul measured
  double bytes = 0;  ///< of the best pass over memory measured
};

/// The denominator of MFU.
struct GemmPeak {
  double flops = 0;  ///< per second
  int size = 0;      ///< of the square matrices that it was measured with; 0: configured, not measured
};

/// The best of several matmuls of a size that takes the device a few milliseconds.
GemmPeak gemm_peak(const Backend& backend, DType compute_dtype);

/// Normally distributed values, as bf16 and as f32: matmuls of zeros draw less power than a model's, and run faster.
void fill_random(void* buffer, std::size_t bytes, MemorySpace& space);

/// Bytes per second of adding one long array to another. Cost: some tens of milliseconds.
double memory_bandwidth(const Backend& backend);

}  // namespace slipway
