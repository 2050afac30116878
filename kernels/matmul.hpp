// Matrix product.
#pragma once

#include "kernels/stream.hpp"
#include "src/core/dtype.hpp"
#include "src/core/tensor.hpp"

namespace slipway {

/// A read-only matrix whose element type is known at run time: an f32 or bf16 operand of a product.
struct Operand {
  const void* data = nullptr;
  int rows = 0;
  int cols = 0;
  std::int64_t stride = 0;
  DType dtype = DType::kF32;

  Operand() = default;
  Operand(Matrix<const float> m) : data(m.data), rows(m.rows), cols(m.cols), stride(m.stride) {}  // NOLINT
  Operand(Matrix<float> m) : Operand(Matrix<const float>(m)) {}                                   // NOLINT
  Operand(Matrix<const Bf16> m)                                                                   // NOLINT
      : data(m.data), rows(m.rows), cols(m.cols), stride(m.stride), dtype(DType::kBf16) {}
  Operand(Matrix<Bf16> m) : Operand(Matrix<const Bf16>(m)) {}  // NOLINT
};

/// `c = op(a) op(b)`, or `c += op(a) op(b)`, with op a transposition or nothing.
///
/// Shapes   op(a) [M, K], op(b) [K, N], c [M, N]; any of them may be 0. Operands are stored row-major and untransposed.
/// Numbers  both operands f32, or both bf16; products and sums in f32 (bf16 operands are exact in f32).
/// Aliasing c overlaps neither operand.
/// Errors   Fault::kBug when shapes or element types disagree.
struct MatMul {
  Operand a;
  Operand b;
  Matrix<float> c;
  bool transpose_a = false;
  bool transpose_b = false;
  bool accumulate = false;
};

}  // namespace slipway
