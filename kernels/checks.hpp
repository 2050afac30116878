// Argument checks that every backend runs before an op, and the dispatch from a runtime dtype to a compile-time type.
#pragma once

#include <string_view>

#include "kernels/attention.hpp"
#include "kernels/cross_entropy.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/embedding.hpp"
#include "kernels/gelu.hpp"
#include "kernels/layer_norm.hpp"
#include "kernels/matmul.hpp"
#include "kernels/optimizer.hpp"
#include "kernels/quantized.hpp"
#include "kernels/rms_norm.hpp"
#include "kernels/rope.hpp"
#include "kernels/sample.hpp"
#include "kernels/swiglu.hpp"
#include "kernels/tensor_view.hpp"

namespace slipway {

/// Throws Fault::kBug, naming both shapes, when two views differ in rows or columns.
template <class A, class B>
void require_same_shape(std::string_view op, const A& a, const B& b) {
  if (a.rows == b.rows && a.cols == b.cols) return;
  throw Error(Fault::kBug,
              join(op, ": the shapes [", a.rows, ", ", a.cols, "] and [", b.rows, ", ", b.cols, "] differ"));
}

/// The same for rows, columns and element types.
template <class A, class B>
void require_same_shape_and_dtype(std::string_view op, const A& a, const B& b) {
  require_same_shape(op, a, b);
  if (a.dtype != b.dtype)
    throw Error(Fault::kBug, join(op, ": the element types ", name(a.dtype), " and ", name(b.dtype), " differ"));
}

// check(op) checks shapes, element types and parameters. Errors: Fault::kBug naming the op.

inline void check_groups(std::string_view op, const ConstTensorView& x_RD, int groups, float eps) {
  require(groups >= 1 && x_RD.cols >= groups && x_RD.cols % groups == 0 && eps > 0,
          join(op, ": needs at least one column, a column count divisible by the groups, and a positive eps"));
}
/// The checks that RmsNorm and LayerNorm share.
template <class Norm>
void check_norm(std::string_view name, const Norm& op, int groups) {
  require_same_shape(name, op.x_RD, op.y_RD);
  check_groups(name, op.x_RD, groups, op.eps);
  require(op.x_RD.dtype == DType::kF32 || op.x_RD.dtype == op.y_RD.dtype, join(name, ": a bf16 x has a bf16 y"));
}
template <class Grad>
void check_norm_grad(std::string_view name, const Grad& op, int groups) {
  require_same_shape_and_dtype(name, op.x_RD, op.dy_RD);
  require_same_shape_and_dtype(name, op.x_RD, op.dx_RD);
  check_groups(name, op.x_RD, groups, op.eps);
  require(!op.accumulate_dx || op.x_RD.rows == 0 || op.dx_RD.data != op.dy_RD.data,
          join(name, ": dx is dy, so it cannot accumulate"));
  if (op.dx_bf16_RD.data != nullptr) require_same_shape(name, op.dx_RD, op.dx_bf16_RD);
}
inline void check(const RmsNorm& op) { check_norm("rms_norm", op, op.groups); }
inline void check(const RmsNormGrad& op) { check_norm_grad("rms_norm_grad", op, op.groups); }
inline void check(const LayerNorm& op) { check_norm("layer_norm", op, 1); }
inline void check(const LayerNormGrad& op) { check_norm_grad("layer_norm_grad", op, 1); }
/// The backend checks the positions, since they may be in device memory.
inline void check(const Rope& op) {
  require_same_shape("rope", op.cos_PJ, op.sin_PJ);
  require(op.head_width >= 2 && op.head_width % 2 == 0, "rope: the head width must be even");
  require(op.x_NHK.cols % op.head_width == 0, "rope: a row must hold whole heads");
  require(op.cos_PJ.cols == op.head_width / 2, "rope: the table must have half a head's columns");
}
inline void check(const Swiglu& op) {
  require_same_shape_and_dtype("swiglu", op.gate_RF, op.up_RF);
  require_same_shape_and_dtype("swiglu", op.gate_RF, op.y_RF);
}
inline void check(const SwigluGrad& op) {
  require_same_shape_and_dtype("swiglu_grad", op.gate_RF, op.up_RF);
  require_same_shape_and_dtype("swiglu_grad", op.gate_RF, op.dy_RF);
  require_same_shape_and_dtype("swiglu_grad", op.gate_RF, op.dgate_RF);
  require_same_shape_and_dtype("swiglu_grad", op.gate_RF, op.dup_RF);
  if (op.y_RF.data != nullptr) require_same_shape_and_dtype("swiglu_grad", op.gate_RF, op.y_RF);
}
inline void check(const Gelu& op) { require_same_shape_and_dtype("gelu", op.x_RF, op.y_RF); }
inline void check(const GeluGrad& op) {
  require_same_shape_and_dtype("gelu_grad", op.x_RF, op.dy_RF);
  require_same_shape_and_dtype("gelu_grad", op.x_RF, op.dx_RF);
  if (op.y_RF.data != nullptr) require_same_shape_and_dtype("gelu_grad", op.x_RF, op.y_RF);
}
inline void check(const SoftmaxPartials& op) {
  require(op.valid_cols >= 0 && op.valid_cols <= op.logits_RV.cols,
          "softmax_partials: more valid columns than columns");
  if (op.exp_RV.data != nullptr) require_same_shape("softmax_partials", op.logits_RV, op.exp_RV);
}
inline void check(const Sample& op) {
  const Matrix<const float>& logits = op.logits_BV;
  require(logits.cols >= 1, "sample: needs at least one column");
  require(op.allowed_BV.data == nullptr ||
              (op.allowed_BV.cols == logits.cols && (op.allowed_BV.rows == 1 || op.allowed_BV.rows == logits.rows)),
          "sample: the mask and the logits differ in shape");
  require(op.temperature >= 0 && op.top_k >= 0 && op.top_p > 0 && op.top_p <= 1,
          "sample: needs a temperature and a top_k of at least 0, and a top_p above 0 and up to 1");
  require(!op.is_random() || op.uniform_B != nullptr || logits.rows == 0, "sample: a draw needs uniform numbers");
}
inline void check(const Embedding& op) {
  require(op.table_VD.cols == op.y_ND.cols, "embedding: the table and the output differ in width");
}
inline void check(const EmbeddingGrad& op) {
  require(op.dtable_VD.cols == op.dy_ND.cols, "embedding_grad: the table and the gradient differ in width");
}
inline void check(const Add& op) {
  require(op.x.size() == op.y.size() && (op.sum.empty() || op.sum.size() == op.y.size()), "add: the lengths differ");
}
inline void check(const Copy& op) { require_same_shape_and_dtype("copy", op.x_RD, op.y_RD); }
inline void check(const ToBf16& op) { require_same_shape("to_bf16", op.x_RD, op.y_RD); }
inline void check(const AdamW& op) {
  require(op.g.size() == op.w.size() && op.m.size() == op.w.size() && op.v.size() == op.w.size() &&
              (op.w_bf16.empty() || op.w_bf16.size() == op.w.size()),
          "adamw: weights, gradients and moments differ in length");
}

inline void check(const MuonMomentum& op) {
  require(op.g.size() == op.m.size(), "muon_momentum: gradients and momentum differ in length");
}
inline void check(const MuonUpdate& op) {
  require(op.direction.size() == op.w.size() && (op.w_bf16.empty() || op.w_bf16.size() == op.w.size()),
          "muon_update: weights and directions differ in length");
}

inline void check_attention(const AttentionShape& shape, const ConstTensorView& q_NHK, const ConstTensorView& k_SGK,
                            const ConstTensorView& v_SGK, const Matrix<const float>& lse_NH) {
  const int key_rows = shape.key_rows == 0 ? shape.keys : shape.key_rows;
  require(shape.keys >= shape.queries && key_rows >= shape.keys, "attention: needs queries <= keys <= key_rows");
  require(shape.head_width >= 1 && shape.queries_per_kv >= 1 && shape.first_head >= 0 &&
              (shape.kv_heads >= 1 || shape.heads == 0),
          "attention: needs a head width, a group and a key-value head");
  const std::int64_t q_rows = std::int64_t{shape.sequences} * shape.queries,
                     q_cols = std::int64_t{shape.heads} * shape.head_width;
  const std::int64_t kv_rows = std::int64_t{shape.sequences} * key_rows,
                     kv_cols = std::int64_t{shape.kv_heads} * shape.head_width;
  if (q_NHK.rows == q_rows && q_NHK.cols == q_cols && k_SGK.rows >= kv_rows && k_SGK.cols == kv_cols &&
      v_SGK.rows >= kv_rows && v_SGK.cols == kv_cols && lse_NH.rows == q_rows && lse_NH.cols == shape.heads) {
    require(q_NHK.dtype == k_SGK.dtype && q_NHK.dtype == v_SGK.dtype, "attention: q, k and v differ in element type");
    require(q_NHK.dtype == DType::kF32 || shape.head_width % 2 == 0, "attention: bf16 needs an even head width");
    return;
  }
  throw Error(Fault::kBug, join("attention: expected q [", q_rows, ", ", q_cols, "], k and v [", kv_rows, ", ", kv_cols,
                                "], lse [", q_rows, ", ", shape.heads, "]; found q [", q_NHK.rows, ", ", q_NHK.cols,
                                "], k [", k_SGK.rows, ", ", k_SGK.cols, "], v [", v_SGK.rows, ", ", v_SGK.cols,
                                "], lse [", lse_NH.rows, ", ", lse_NH.cols, "]"));
}
inline void check(const Attention& op) {
  check_attention(op.shape, op.q_NHK, op.k_SGK, op.v_SGK, op.lse_NH);
  require_same_shape_and_dtype("attention", op.q_NHK, op.out_NHK);
}
inline void check(const AttentionGrad& op) {
  check_attention(op.shape, op.q_NHK, op.k_SGK, op.v_SGK, op.lse_NH);
  require(op.shape.queries == op.shape.keys, "attention_grad: needs as many queries as keys: it is for training");
  for (const ConstTensorView& like_q : {op.out_NHK, op.dout_NHK, ConstTensorView(op.dq_NHK)})
    require_same_shape_and_dtype("attention_grad", op.q_NHK, like_q);
  require_same_shape_and_dtype("attention_grad", op.k_SGK, op.dk_SGK);
  require_same_shape_and_dtype("attention_grad", op.v_SGK, op.dv_SGK);
}

/// The sizes of a checked matmul.
struct GemmShape {
  int M = 0;
  int N = 0;
  int K = 0;
};
inline GemmShape check(const MatMul& op) {
  const int M = op.transpose_a ? op.a.cols : op.a.rows, a_K = op.transpose_a ? op.a.rows : op.a.cols;
  const int N = op.transpose_b ? op.b.rows : op.b.cols, b_K = op.transpose_b ? op.b.cols : op.b.rows;
  if (a_K != b_K || op.c.rows != M || op.c.cols != N)
    throw Error(Fault::kBug, join("matmul: [", M, ", ", a_K, "] times [", b_K, ", ", N, "] cannot give [", op.c.rows,
                                  ", ", op.c.cols, "]"));
  require(op.a.dtype == op.b.dtype, "matmul: the operands differ in element type");
  require(op.a.dtype == DType::kF32 || op.a.dtype == DType::kBf16, "matmul: operands are f32 or bf16");
  require(op.c.dtype == DType::kF32 || (op.c.dtype == op.a.dtype && !op.accumulate),
          "matmul: c is f32, or bf16 like its operands and not added to");
  if (op.residual.data != nullptr) {
    require_same_shape("matmul", op.c, op.residual);
    require(op.c.dtype == DType::kF32 && !op.accumulate,
            "matmul: c is f32 where it takes a residual, and not added to");
  }
  return {.M = M, .N = N, .K = a_K};
}
/// The matrix that op(a) op(b) is added to: c where the op accumulates, else the residual (null: none).
inline Matrix<const float> residual_of(const MatMul& op) { return op.accumulate ? op.c.as<float>() : op.residual; }
inline void check(const MatMulQuantized& op) {
  require(op.a.cols == op.w.cols && op.c.rows == op.a.rows && op.c.cols == op.w.rows,
          "matmul_quantized: the shapes disagree");
}
inline void check(const Dequantize& op) {
  require(op.w.rows == op.out.rows && op.w.cols == op.out.cols, "dequantize: the shapes disagree");
}

template <class T>
struct Type {};

/// `fn(Type<float>{})` or `fn(Type<Bf16>{})`.
template <class Fn>
void dispatch_dtype(DType dtype, const Fn& fn) {
  switch (dtype) {
    case DType::kF32: return fn(Type<float>{});
    case DType::kBf16: return fn(Type<Bf16>{});
    default: throw Error(Fault::kBug, join("kernels compute in f32 and bf16, not in ", name(dtype)));
  }
}

}  // namespace slipway
