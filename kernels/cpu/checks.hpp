// Checks that several ops share, and the step from an element type known at run time to one known to the compiler.
#pragma once

#include <string_view>

#include "kernels/operand.hpp"

namespace slipway::cpu {

/// Stops with Fault::kBug, in a sentence with both shapes, when two views differ in rows or columns.
template <class A, class B>
void require_same_shape(std::string_view op, const A& a, const B& b) {
  if (a.rows == b.rows && a.cols == b.cols) return;
  throw Error(Fault::kBug,
              join(op, ": the shapes [", a.rows, ", ", a.cols, "] and [", b.rows, ", ", b.cols, "] differ"));
}

/// ... or in element type.
template <class A, class B>
void require_alike(std::string_view op, const A& a, const B& b) {
  require_same_shape(op, a, b);
  if (a.dtype != b.dtype)
    throw Error(Fault::kBug, join(op, ": the element types ", name(a.dtype), " and ", name(b.dtype), " differ"));
}

template <class T>
struct Type {};

/// `act(Type<float>{})` or `act(Type<Bf16>{})`.
template <class Act>
void by_type(DType dtype, const Act& act) {
  switch (dtype) {
    case DType::kF32: return act(Type<float>{});
    case DType::kBf16: return act(Type<Bf16>{});
    default: throw Error(Fault::kBug, join("kernels compute in f32 and bf16, not in ", name(dtype)));
  }
}

}  // namespace slipway::cpu
