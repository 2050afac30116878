// Block-quantized 8-bit weights, in the layout that matmuls read.
#pragma once

#include <cstdint>

#include "kernels/tensor_view.hpp"

namespace slipway {

/// Rows of q8_0 (io/model/block_quant.hpp) with values and scales in separate arrays, so that vector loads are aligned:
/// weight k of row n is `row(n)[k] * scale(n, k)`, exact in f32 (8 bits times the 11 of an f16).
struct QuantizedRows {
  static constexpr int kBlock = 32;     ///< weights that share a scale
  const std::int8_t* values = nullptr;  ///< [rows, cols], packed
  const float* scales = nullptr;        ///< [rows, cols / kBlock], packed
  int rows = 0;
  int cols = 0;  ///< a multiple of kBlock

  static constexpr std::uint64_t bytes(std::uint64_t weights) { return weights + weights / kBlock * sizeof(float); }
  SLIPWAY_HD const std::int8_t* row(std::int64_t n) const { return values + n * cols; }
  SLIPWAY_HD float scale(std::int64_t n, int k) const { return scales[(n * cols + k) / kBlock]; }
  QuantizedRows view_rows(int first, int count) const {
    return {row(first), scales + std::int64_t{first} * cols / kBlock, count, cols};
  }
};

/// `c = a w^T`.
///
/// Shapes   a [M, K], w [N, K], c [M, N].
/// Precision as MatMul with w dequantized to a's element type; with few rows in a (decoding) w is exact in f32 even
///          when a is bf16, and the result equals that of MatMul with f32 operands to the bit.
/// Errors   Fault::kBug when shapes disagree.
struct MatMulQuantized {
  ConstTensorView a;
  QuantizedRows w;
  TensorView c;
};

/// `out = w`, exactly.
struct Dequantize {
  QuantizedRows w;
  Matrix<float> out;
};

}  // namespace slipway
