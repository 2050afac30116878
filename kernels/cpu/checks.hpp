// Shape checks that several ops share.
#pragma once

#include <string_view>

#include "src/core/tensor.hpp"

namespace slipway::cpu {

/// Stops with Fault::kBug, in a sentence with both shapes, when two views differ in rows or columns.
template <class A, class B>
void require_same_shape(std::string_view op, const Matrix<A>& a, const Matrix<B>& b) {
  if (a.rows == b.rows && a.cols == b.cols) return;
  throw Error(Fault::kBug,
              join(op, ": the shapes [", a.rows, ", ", a.cols, "] and [", b.rows, ", ", b.cols, "] differ"));
}

}  // namespace slipway::cpu
