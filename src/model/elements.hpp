// Sizes of matrices, and their elements as one range.
#pragma once

#include <cstddef>
#include <span>

#include "src/core/tensor.hpp"

namespace slipway {

inline std::size_t elements(int rows, int cols) {
  return static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols);
}

/// All elements of a contiguous matrix.
template <class T>
std::span<T> span_of(Matrix<T> m) {
  return {m.data, elements(m.rows, m.cols)};
}

}  // namespace slipway
