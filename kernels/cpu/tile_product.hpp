// Products of tiles small enough for the caches, as attention needs them: no packing, any stride, sums in a fixed
// order.
#pragma once

#include <cstdint>

#include "kernels/body/exp.hpp"
#include "kernels/cpu/vector.hpp"

namespace slipway::cpu {

/// One operand read element by element: element (i, p) is at `data[i * row + p * step]`, so it may be stored either
/// way.
struct Scattered {
  const float* data = nullptr;
  std::int64_t row = 0;
  std::int64_t step = 0;

  Scattered from(int i, int p) const { return {data + i * row + p * step, row, step}; }
};

/// The other operand and the result, read as vectors along their rows.
template <class T>
struct Rows {
  T* data = nullptr;
  std::int64_t row = 0;

  Rows from(int i, int j) const { return {data + i * row + j, row}; }
};

namespace tile {

/// Rows of c that a block holds in registers, and vectors in each of them: with a vector of b and a broadcast of a
/// these fill the sixteen registers of AVX2 (twelve sums hide the latency of two multiply-adds a cycle).
inline constexpr int kRows = 6;
inline constexpr int kVectors = 2;

/// `c[i, j] = c[i, j] * keep[i] + sum over p of a(i, p) * b[p, j]` on a block of kI rows and kJ vectors; no `keep`: c
/// starts at 0.
template <int kI, int kJ>
inline void block(int depth, Scattered a, Rows<const float> b, Rows<float> c, const float* keep) {
  Vector sum[kI][kJ];
#pragma GCC unroll 8
  for (int i = 0; i < kI; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < kJ; ++j)
      sum[i][j] = keep == nullptr ? Vector{} : load(c.data + i * c.row + j * kLanes) * broadcast(keep[i]);

  for (int p = 0; p < depth; ++p) {
    Vector b_p[kJ];
#pragma GCC unroll 8
    for (int j = 0; j < kJ; ++j) b_p[j] = load(b.data + p * b.row + j * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kI; ++i) {
      const Vector a_ip = broadcast(a.data[i * a.row + p * a.step]);
#pragma GCC unroll 8
      for (int j = 0; j < kJ; ++j) sum[i][j] = multiply_add(a_ip, b_p[j], sum[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kI; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < kJ; ++j) store(c.data + i * c.row + j * kLanes, sum[i][j]);
}

/// The columns that are no whole vector, in the same order of sums.
inline void block_scalar(int rows, int cols, int depth, Scattered a, Rows<const float> b, Rows<float> c,
                         const float* keep) {
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < cols; ++j) {
      float sum = keep == nullptr ? 0.0f : c.data[i * c.row + j] * keep[i];
      for (int p = 0; p < depth; ++p)
        sum = body::multiply_add(a.data[i * a.row + p * a.step], b.data[p * b.row + j], sum);
      c.data[i * c.row + j] = sum;
    }
}

/// All columns of kI rows.
template <int kI>
inline void row_block(int cols, int depth, Scattered a, Rows<const float> b, Rows<float> c, const float* keep) {
  int j = 0;
  for (; j + kVectors * kLanes <= cols; j += kVectors * kLanes)
    block<kI, kVectors>(depth, a, b.from(0, j), c.from(0, j), keep);
  for (; j + kLanes <= cols; j += kLanes) block<kI, 1>(depth, a, b.from(0, j), c.from(0, j), keep);
  if (j < cols) block_scalar(kI, cols - j, depth, a, b.from(0, j), c.from(0, j), keep);
}

}  // namespace tile

/// `c[i, j] = c[i, j] * keep[i] + sum over p of a(i, p) * b[p, j]`, p in order, so that an element's value depends on
/// its own operands alone and never on the size of the tile around it.
inline void tile_product(int rows, int cols, int depth, Scattered a, Rows<const float> b, Rows<float> c,
                         const float* keep) {
  const auto keep_from = [=](int i) { return keep == nullptr ? nullptr : keep + i; };
  int i = 0;
  for (; i + tile::kRows <= rows; i += tile::kRows)
    tile::row_block<tile::kRows>(cols, depth, a.from(i, 0), b, c.from(i, 0), keep_from(i));
  switch (rows - i) {
    case 5: return tile::row_block<5>(cols, depth, a.from(i, 0), b, c.from(i, 0), keep_from(i));
    case 4: return tile::row_block<4>(cols, depth, a.from(i, 0), b, c.from(i, 0), keep_from(i));
    case 3: return tile::row_block<3>(cols, depth, a.from(i, 0), b, c.from(i, 0), keep_from(i));
    case 2: return tile::row_block<2>(cols, depth, a.from(i, 0), b, c.from(i, 0), keep_from(i));
    case 1: return tile::row_block<1>(cols, depth, a.from(i, 0), b, c.from(i, 0), keep_from(i));
    default: return;
  }
}

}  // namespace slipway::cpu
