// What every backend asks of an op before it runs, and the step from an element type known at run time to one known to
// the compiler.
#pragma once

#include <string_view>

#include "kernels/cross_entropy.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/embedding.hpp"
#include "kernels/operand.hpp"
#include "kernels/optimizer.hpp"
#include "kernels/rms_norm.hpp"
#include "kernels/rope.hpp"
#include "kernels/swiglu.hpp"

namespace slipway {

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

// check(op): shapes, element types and numbers. Errors: Fault::kBug naming the op.

inline void check_parts(std::string_view op, const Operand& x_RD, int parts, float eps) {
  require(parts >= 1 && x_RD.cols >= parts && x_RD.cols % parts == 0 && eps > 0,
          join(op, ": needs a column at least, whole parts and a positive eps"));
}
inline void check(const RmsNorm& op) {
  require_same_shape("rms_norm", op.x_RD, op.y_RD);
  check_parts("rms_norm", op.x_RD, op.parts, op.eps);
  require(op.x_RD.dtype == DType::kF32 || op.x_RD.dtype == op.y_RD.dtype, "rms_norm: a bf16 x has a bf16 y");
}
inline void check(const RmsNormGrad& op) {
  require_alike("rms_norm_grad", op.x_RD, op.dy_RD);
  require_alike("rms_norm_grad", op.x_RD, op.dx_RD);
  check_parts("rms_norm_grad", op.x_RD, op.parts, op.eps);
  require(!op.accumulate_dx || op.x_RD.rows == 0 || op.dx_RD.data != op.dy_RD.data,
          "rms_norm_grad: dx is dy, so it cannot accumulate");
}
/// Positions are looked at where they lie, by the backend.
inline void check(const Rope& op) {
  require_same_shape("rope", op.cos_PJ, op.sin_PJ);
  require(op.head_width >= 2 && op.head_width % 2 == 0, "rope: the head width must be even");
  require(op.x_NHK.cols % op.head_width == 0, "rope: a row must hold whole heads");
  require(op.cos_PJ.cols == op.head_width / 2, "rope: the table must have half a head's columns");
}
inline void check(const Swiglu& op) {
  require_alike("swiglu", op.gate_RF, op.up_RF);
  require_alike("swiglu", op.gate_RF, op.y_RF);
}
inline void check(const SwigluGrad& op) {
  require_alike("swiglu_grad", op.gate_RF, op.up_RF);
  require_alike("swiglu_grad", op.gate_RF, op.dy_RF);
  require_alike("swiglu_grad", op.gate_RF, op.dgate_RF);
  require_alike("swiglu_grad", op.gate_RF, op.dup_RF);
  if (op.y_RF.data != nullptr) require_alike("swiglu_grad", op.gate_RF, op.y_RF);
}
inline void check(const SoftmaxShares& op) {
  require(op.valid_cols >= 0 && op.valid_cols <= op.logits_RV.cols, "softmax_shares: more valid columns than columns");
  if (op.exp_RV.data != nullptr) require_same_shape("softmax_shares", op.logits_RV, op.exp_RV);
}
inline void check(const Embedding& op) {
  require(op.table_VD.cols == op.y_ND.cols, "embedding: the table and the output differ in width");
}
inline void check(const EmbeddingGrad& op) {
  require(op.dtable_VD.cols == op.dy_ND.cols, "embedding_grad: the table and the gradient differ in width");
}
inline void check(const Add& op) { require(op.x.size() == op.y.size(), "add: the lengths differ"); }
inline void check(const ToBf16& op) { require_same_shape("to_bf16", op.x_RD, op.y_RD); }
inline void check(const AdamW& op) {
  require(op.g.size() == op.w.size() && op.m.size() == op.w.size() && op.v.size() == op.w.size() &&
              (op.w_bf16.empty() || op.w_bf16.size() == op.w.size()),
          "adamw: weights, gradients and moments differ in length");
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

}  // namespace slipway
