// The tensor-core instructions on the CUDA emulation: kernels/cuda/tensor_core.cuh describes the fragments.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <source_location>

#include "kernels/cuda_emulation/thread_blocks.hpp"

namespace slipway {
struct Bf16;
}

namespace slipway::cuda {

using SourceLocation = std::source_location;

inline void mma_m16n8k16(float (&sums)[4], const std::uint32_t (&left)[4], std::uint32_t right_top,
                         std::uint32_t right_bottom, SourceLocation location = SourceLocation::current()) {
  struct Fragments {
    float* sums;
    const std::uint32_t* left;
    std::uint32_t right[2];
  } args{sums, left, {right_top, right_bottom}};
  cuda_emulation::warp_collective(
      0xffffffffu, "mma", &args,
      [](void* const all[32]) {
        const auto lane = [&](int index) -> Fragments& { return *static_cast<Fragments*>(all[index]); };
        const auto half = [](std::uint32_t word, int upper) {
          return std::bit_cast<float>(upper != 0 ? word & 0xffff0000u : word << 16);
        };
        float a[16][16], b[16][8];
        for (int g = 0; g < 8; ++g)
          for (int t = 0; t < 4; ++t)
            for (int i = 0; i < 4; ++i)
              for (int upper = 0; upper < 2; ++upper) {
                a[g + i % 2 * 8][2 * t + i / 2 * 8 + upper] = half(lane(4 * g + t).left[i], upper);
                if (i < 2) b[2 * t + i * 8 + upper][g] = half(lane(4 * g + t).right[i], upper);
              }
        for (int g = 0; g < 8; ++g)
          for (int t = 0; t < 4; ++t)
            for (int i = 0; i < 4; ++i) {
              float sum = 0;
              for (int k = 0; k < 16; ++k) sum += a[g + i / 2 * 8][k] * b[k][2 * t + i % 2];
              lane(4 * g + t).sums[i] += sum;
            }
      },
      location);
}

namespace emulated {

template <bool kTransposed>
void ldmatrix_x4(std::uint32_t (&pairs)[4], const Bf16* row, SourceLocation location) {
  struct Rows {
    std::uint32_t* pairs;
    const std::uint16_t* row;
  } args{pairs, reinterpret_cast<const std::uint16_t*>(row)};
  if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0)
    cuda_emulation::report_and_abort("a row of a matrix to load does not lie on a 16-byte boundary", location);
  cuda_emulation::warp_collective(
      0xffffffffu, kTransposed ? "ldmatrix.trans" : "ldmatrix", &args,
      [](void* const all[32]) {
        for (int lane = 0; lane < 32; ++lane)
          for (int i = 0; i < 4; ++i) {
            const int g = lane / 4, t = lane % 4;
            const auto at = [&](int r, int c) -> std::uint32_t { return static_cast<Rows*>(all[8 * i + r])->row[c]; };
            static_cast<Rows*>(all[lane])->pairs[i] =
                kTransposed ? at(2 * t, g) | at(2 * t + 1, g) << 16 : at(g, 2 * t) | at(g, 2 * t + 1) << 16;
          }
      },
      location);
}

}  // namespace emulated

inline void ldmatrix_x4(std::uint32_t (&pairs)[4], const Bf16* row,
                        SourceLocation location = SourceLocation::current()) {
  emulated::ldmatrix_x4<false>(pairs, row, location);
}
inline void ldmatrix_x4_trans(std::uint32_t (&pairs)[4], const Bf16* row,
                              SourceLocation location = SourceLocation::current()) {
  emulated::ldmatrix_x4<true>(pairs, row, location);
}

}  // namespace slipway::cuda
