// What one rank's device can do in a second, measured: what MFU and a profile's rates are held against.
#pragma once

#include "kernels/table.hpp"

namespace slipway {

/// The limits that an op's rate is held against.
struct MachineLimit {
  double flops = 0;  ///< of the best product measured
  double bytes = 0;  ///< of the best pass over memory measured
};

/// What MFU is measured against.
struct ProductPeak {
  double flops = 0;  ///< a second
  int size = 0;      ///< of the square matrices that it was measured with; 0: it was stated, not measured
};

/// The best of several matmuls of a size that takes the device some milliseconds.
ProductPeak product_peak(const KernelTable& kernels, DType compute);

/// Normal numbers, as bf16 and as f32: products of zeros take less power than those of a model, and so less time.
void fill_with_numbers(void* room, std::size_t bytes, MemorySpace& space);

/// Bytes a second of adding one long array to another. Cost: some tens of milliseconds.
double memory_bandwidth(const KernelTable& kernels);

}  // namespace slipway
