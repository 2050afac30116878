// Wrappers for the tensor-core instructions that kernels use. On the CUDA emulation the same functions are plain loops
// over the threads' fragments (kernels/cuda_emulation/tensor_core.hpp).
//
// Thread 4 g + t of a warp holds of a 16 x 16 left operand the pairs (row g, columns 2t, 2t+1), (g+8, ..), (g, 2t+8,
// ..), (g+8, 2t+8, ..); of a 16 x 8 right operand the pairs (rows 2t, 2t+1, column g), (rows 2t+8, ..); of the 16 x 8
// sums (row g, columns 2t, 2t+1), (row g+8, columns 2t, 2t+1).
// Source   NVIDIA, "Parallel Thread Execution ISA", sections on mma.m16n8k16 and ldmatrix.
#pragma once

#include <cstdint>

#include "src/core/dtype.hpp"

namespace slipway::cuda {

#if defined(__CUDACC__)

/// `sums += left right`: products of bf16, exact, summed in f32.
__device__ __forceinline__ void mma_m16n8k16(float (&sums)[4], const std::uint32_t (&left)[4], std::uint32_t right_top,
                                             std::uint32_t right_bottom) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right_top), "r"(right_bottom));
}

/// Loads four 8 x 8 matrices from shared memory: threads 8 i to 8 i + 7 pass the rows of matrix i, 16-byte aligned, and
/// thread 4 g + t gets the pair (row g, columns 2t, 2t+1) of every matrix.
__device__ __forceinline__ void ldmatrix_x4(std::uint32_t (&pairs)[4], const Bf16* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(pairs[0]), "=r"(pairs[1]), "=r"(pairs[2]), "=r"(pairs[3])
               : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}

/// The same, transposed: thread 4 g + t gets the pair (rows 2t, 2t+1, column g).
__device__ __forceinline__ void ldmatrix_x4_trans(std::uint32_t (&pairs)[4], const Bf16* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(pairs[0]), "=r"(pairs[1]), "=r"(pairs[2]), "=r"(pairs[3])
               : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}

#endif

/// Two adjacent elements as one word, the first one in the lower half.
SLIPWAY_HD inline std::uint32_t pack_bf16(float first, float second) {
  return static_cast<std::uint32_t>(to_bf16(first).bits) | static_cast<std::uint32_t>(to_bf16(second).bits) << 16;
}

}  // namespace slipway::cuda
