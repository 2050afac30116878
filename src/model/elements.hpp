// Sizes of matrices.
#pragma once

#include <cstddef>

namespace slipway {

inline std::size_t elements(int rows, int cols) {
  return static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols);
}

}  // namespace slipway
