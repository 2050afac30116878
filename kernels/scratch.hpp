// Scratch memory of GPU ops, in addition to their operands: allocated by the backend, counted by a dry run.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/attention.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/layer_norm.hpp"
#include "kernels/matmul.hpp"
#include "kernels/optimizer.hpp"
#include "kernels/quantized.hpp"
#include "kernels/rms_norm.hpp"
#include "kernels/sample.hpp"

namespace slipway {

/// `dividend / divisor`, rounded up.
constexpr std::size_t ceil_div(std::size_t dividend, std::size_t divisor) { return (dividend + divisor - 1) / divisor; }

inline constexpr int kSumRows = 64;             ///< rows per group of a sum over rows (see kernels/rms_norm.hpp)
inline constexpr std::size_t kSumBlock = 4096;  ///< elements per block of a sum of squares (see kernels/optimizer.hpp)
inline constexpr std::size_t kChunk = 2048;     ///< elements of a range, or of a row of logits, per thread block
inline constexpr int kDequantizedRows = 512;    ///< rows of a q8_0 matrix that are dequantized at once
inline constexpr int kMaxSkinnyRows = 8;        ///< with at most so many rows of x, weights are read as they are stored

/// Whether the op runs in the GEMM library, which has a workspace of kGemmWorkspaceBytes.
template <class Op>
bool uses_library_gemm(const Op&) {
  return false;
}
inline bool uses_library_gemm(const MatMul& op) {
  return op.transpose_a || !op.transpose_b || op.a.rows > kMaxSkinnyRows || op.a.rows == 0;
}
inline bool uses_library_gemm(const MatMulQuantized& op) { return op.a.rows > kMaxSkinnyRows; }

/// A row of sums for each group of rows.
constexpr std::size_t row_sums_bytes(int rows, int columns) {
  return sizeof(float) * ceil_div(static_cast<std::size_t>(rows), kSumRows) * static_cast<std::size_t>(columns);
}

template <class Op>
std::size_t scratch_bytes(const Op&) {
  return 0;
}
/// delta, the dot product of out and dout, for every row and head.
inline std::size_t scratch_bytes(const AttentionGrad& op) {
  return sizeof(float) * static_cast<std::size_t>(op.q_NHK.rows) * static_cast<std::size_t>(op.shape.heads);
}
inline std::size_t scratch_bytes(const RmsNormGrad& op) {
  return row_sums_bytes(op.x_RD.rows * op.groups, op.x_RD.cols / op.groups);
}
inline std::size_t scratch_bytes(const LayerNormGrad& op) { return row_sums_bytes(op.x_RD.rows, 2 * op.x_RD.cols); }
inline std::size_t scratch_bytes(const BiasGrad& op) { return row_sums_bytes(op.dy_RD.rows, op.dy_RD.cols); }
inline std::size_t scratch_bytes(const SumSquares& op) { return sizeof(double) * ceil_div(op.x.size(), kSumBlock); }
inline std::size_t scratch_bytes(const Normalize& op) {
  return sizeof(double) * (ceil_div(op.x.size(), kSumBlock) + 1);
}
/// The dequantized rows, as f32 and as bf16.
inline std::size_t scratch_bytes(const MatMulQuantized& op) {
  if (!uses_library_gemm(op)) return 0;
  return 2 * sizeof(float) * kDequantizedRows * static_cast<std::size_t>(op.w.cols);
}
/// The largest logit of every chunk of every row and, where tokens are drawn, the weight of every token.
inline std::size_t scratch_bytes(const Sample& op) {
  const auto rows = static_cast<std::size_t>(op.logits_BV.rows), V = static_cast<std::size_t>(op.logits_BV.cols);
  return sizeof(std::uint64_t) * rows * (ceil_div(V, kChunk) + (op.is_random() ? V : 0));
}

}  // namespace slipway
