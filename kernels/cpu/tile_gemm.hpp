// Matmuls of tiles small enough for the caches, for attention: no packing, any stride, sums in a fixed order. Operands
// are f32, or bf16 in pairs that are adjacent along K (AVX512_BF16 multiplies two at once).
#pragma once

#include <cstdint>

#include "kernels/body/exp.hpp"
#include "kernels/cpu/vector.hpp"

namespace slipway::cpu {

/// Adjacent elements along K that form one group of an operand.
template <class E>
inline constexpr int kVnniFactor = kDTypeOf<E> == DType::kBf16 ? 2 : 1;

template <class E>
inline constexpr bool kVnniPacked = kVnniFactor<E> == 2;

/// Groups that hold `count` elements.
template <class E>
constexpr int vnni_groups(int count) {
  return (count + kVnniFactor<E> - 1) / kVnniFactor<E>;
}

/// The left operand, read group by group: group (i, p) is at `data[i * stride + p * step]`, so it may be transposed.
template <class E>
struct StridedOperand {
  const E* data = nullptr;
  std::int64_t stride = 0;
  std::int64_t step = 0;
};

/// The right operand and the result, read as vectors along their rows: group (p, j) is at `data[p * row + j *
/// kVnniFactor]`.
template <class E>
struct Rows {
  E* data = nullptr;
  std::int64_t stride = 0;

  Rows from(int i, int j) const { return {data + i * stride + j * kVnniFactor<std::remove_const_t<E>>, stride}; }
};

namespace tile {

/// Rows of c that a block holds in registers, and vectors per row: with kVectors vectors of b and a broadcast of a,
/// they nearly fill the registers (16, or 32 with AVX-512), and hide the latency of the multiply-adds.
inline constexpr int kRows = kLanes == 16 ? 8 : 6;
inline constexpr int kVectors = 2;

inline Vector broadcast_term(const float* a) { return broadcast(*a); }
inline Bf16Pairs broadcast_term(const Bf16* a) { return broadcast(a); }

/// `c[i, j] = c[i, j] * beta[i] + sum over p of a(i, p) * b[p, j]` on a block of kI rows and kJ vectors; no `beta`: c
/// starts at 0.
template <int kI, int kJ, class E>
inline void block(int depth, StridedOperand<E> a, Rows<const E> b, Rows<float> c, const float* beta) {
  Vector sum[kI][kJ];
#pragma GCC unroll 8
  for (int i = 0; i < kI; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < kJ; ++j)
      sum[i][j] = beta == nullptr ? Vector{} : load(c.data + i * c.stride + j * kLanes) * broadcast(beta[i]);

  for (int p = 0; p < depth; ++p) {
    decltype(load(b.data)) b_p[kJ];
#pragma GCC unroll 8
    for (int j = 0; j < kJ; ++j) b_p[j] = load(b.from(p, j * kLanes).data);
#pragma GCC unroll 8
    for (int i = 0; i < kI; ++i) {
      const auto a_ip = broadcast_term(a.data + i * a.stride + p * a.step);
#pragma GCC unroll 8
      for (int j = 0; j < kJ; ++j) sum[i][j] = fmadd(a_ip, b_p[j], sum[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kI; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < kJ; ++j) store(c.data + i * c.stride + j * kLanes, sum[i][j]);
}

/// The columns beyond the last whole vector, summed in the same order.
template <class E>
inline void block_scalar(int rows, int cols, int depth, StridedOperand<E> a, Rows<const E> b, Rows<float> c,
                         const float* beta) {
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < cols; ++j) {
      float sum = beta == nullptr ? 0.0f : c.data[i * c.stride + j] * beta[i];
      for (int p = 0; p < depth; ++p) {
        const E* a_ip = a.data + i * a.stride + p * a.step;
        const E* b_pj = b.from(p, j).data;
        for (int e = kVnniFactor<E> - 1; e >= 0; --e) sum = body::fmadd(to_f32(a_ip[e]), to_f32(b_pj[e]), sum);
      }
      c.data[i * c.stride + j] = sum;
    }
}

/// All columns of kI rows.
template <int kI, class E>
inline void row_block(int cols, int depth, StridedOperand<E> a, Rows<const E> b, Rows<float> c, const float* beta) {
  int j = 0;
  for (; j + kVectors * kLanes <= cols; j += kVectors * kLanes)
    block<kI, kVectors>(depth, a, b.from(0, j), c.from(0, j), beta);
  for (; j + kLanes <= cols; j += kLanes) block<kI, 1>(depth, a, b.from(0, j), c.from(0, j), beta);
  if (j < cols) block_scalar(kI, cols - j, depth, a, b.from(0, j), c.from(0, j), beta);
}

}  // namespace tile

/// `c[i, j] = c[i, j] * beta[i] + sum over p of a(i, p) * b[p, j]`, p in order, so that an element's value depends on
/// its own operands alone and not on the size of the tile.
template <class E>
inline void tile_gemm(int rows, int cols, int depth, StridedOperand<E> a, Rows<const E> b, Rows<float> c,
                      const float* beta) {
  int i = 0;
  const auto step = [&]<int kI>(std::integral_constant<int, kI>) {
    tile::row_block<kI>(cols, depth, StridedOperand<E>{a.data + i * a.stride, a.stride, a.step}, b, c.from(i, 0),
                        beta == nullptr ? nullptr : beta + i);
    i += kI;
  };
  while (i + tile::kRows <= rows) step(std::integral_constant<int, tile::kRows>{});
  switch (rows - i) {
    case 7: return step(std::integral_constant<int, 7>{});
    case 6: return step(std::integral_constant<int, 6>{});
    case 5: return step(std::integral_constant<int, 5>{});
    case 4: return step(std::integral_constant<int, 4>{});
    case 3: return step(std::integral_constant<int, 3>{});
    case 2: return step(std::integral_constant<int, 2>{});
    case 1: return step(std::integral_constant<int, 1>{});
    default: return;
  }
}

}  // namespace slipway::cpu
