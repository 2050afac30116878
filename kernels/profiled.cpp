#include "kernels/profiled.hpp"

namespace slipway {
namespace {

using profile::Cost;

const KernelTable* wrapped = nullptr;

double count(const Operand& m) { return static_cast<double>(m.size()); }
double bytes(const Operand& m) { return count(m) * static_cast<double>(bytes_of(m.dtype)); }

/// An op that touches `touched` f32 numbers and computes `per` operations for each of `results`.
Cost rows(double touched, double per, double results) { return {per * results, 4.0 * touched}; }

/// Pairs of a query and a key that it sees, over all sequences and heads.
double pairs_of(const AttentionShape& s) {
  double pairs = 0;
  for (int b = 0; b < s.sequences; ++b)
    for (int t = 0; t < s.queries; ++t) {
      const int first = s.first_key_BT == nullptr ? 0 : s.first_key_BT[b * s.queries + t];
      pairs += t + s.keys - s.queries - first + 1;
    }
  return pairs * s.heads;
}

Cost cost_of(const RmsNorm& op) { return {4 * count(op.x_RD), bytes(op.x_RD) + bytes(op.y_RD)}; }
Cost cost_of(const RmsNormGrad& op) { return {9 * count(op.x_RD), (op.accumulate_dx ? 4 : 3) * bytes(op.x_RD)}; }
Cost cost_of(const Rope& op) { return {3 * count(op.x_NHK), 2 * bytes(op.x_NHK)}; }
Cost cost_of(const Swiglu& op) { return {5 * count(op.gate_RF), 3 * bytes(op.gate_RF)}; }
Cost cost_of(const SwigluGrad& op) {
  return {11 * count(op.gate_RF), (op.y_RF.data == nullptr ? 5 : 6) * bytes(op.gate_RF)};
}
Cost cost_of(const SoftmaxShares& op) {
  return {3 * count(op.logits_RV), bytes(op.logits_RV) + (op.exp_RV.data == nullptr ? 0 : bytes(op.exp_RV))};
}
Cost cost_of(const CrossEntropyGrad& op) { return {2 * count(op.exp_RV), 2 * bytes(op.exp_RV)}; }
Cost cost_of(const Embedding& op) { return rows(2 * count(op.y_ND), 0, 0); }
Cost cost_of(const EmbeddingGrad& op) { return rows(3 * count(op.dy_ND), 1, count(op.dy_ND)); }
Cost cost_of(const Add& op) {
  return rows(3.0 * static_cast<double>(op.x.size()), 1, static_cast<double>(op.x.size()));
}
Cost cost_of(const Scale& op) {
  return rows(2.0 * static_cast<double>(op.x.size()), 1, static_cast<double>(op.x.size()));
}
Cost cost_of(const AddBias& op) { return {count(op.y_RD), 2 * bytes(op.y_RD)}; }
Cost cost_of(const BiasGrad& op) { return {count(op.dy_RD), bytes(op.dy_RD)}; }
Cost cost_of(const Copy& op) { return {0, 2 * bytes(op.x_RD)}; }
Cost cost_of(const Clear& op) { return {0, bytes(op.x_RD)}; }
Cost cost_of(const ToBf16& op) { return {0, 6 * count(op.x_RD)}; }
Cost cost_of(const AdamW& op) {
  const auto size = static_cast<double>(op.w.size());
  return {14 * size, 28 * size + 2 * static_cast<double>(op.w_bf16.size())};
}
Cost cost_of(const SumSquares& op) {
  return rows(static_cast<double>(op.x.size()), 2, static_cast<double>(op.x.size()));
}
Cost cost_of(const JoinShares& op) {
  return rows(4.0 * op.rows * op.count, 20, static_cast<double>(op.rows) * op.count);
}
Cost cost_of(const FirstNonFinite& op) { return rows(static_cast<double>(op.x.size()), 0, 0); }

double bytes(const QuantizedRows& w) {
  return static_cast<double>(
      QuantizedRows::bytes(static_cast<std::uint64_t>(w.rows) * static_cast<std::uint64_t>(w.cols)));
}
Cost cost_of(const Dequantize& op) {
  const double size = static_cast<double>(op.out.size());
  return {size, bytes(op.w) + 4 * size};
}
Cost cost_of(const MatMulQuantized& op) {
  return {2.0 * static_cast<double>(op.c.size()) * op.w.cols, bytes(op.a) + bytes(op.w) + bytes(op.c)};
}

/// The three products of a layer have names of their own: they run at different rates.
const char* name_of(const MatMul& op, const char*) {
  return op.transpose_a ? "product dy^T x" : op.transpose_b ? "product x W^T" : "product dy W";
}
template <class Op>
const char* name_of(const Op&, const char* name) {
  return name;
}

template <class Op, void (*KernelTable::*Entry)(Stream&, const Op&)>
struct Timed {
  static inline const char* name = "";
  static void run(Stream& stream, const Op& op) {
    if (!profile::on()) return (wrapped->*Entry)(stream, op);
    const profile::Scope scope(name_of(op, name), cost_of(op));
    (wrapped->*Entry)(stream, op);
    wrapped->memory->wait();  // what runs beside the host is measured too, at the price of its overlap
  }
  static void (*under(const char* called))(Stream&, const Op&) {
    name = called;
    return run;
  }
};

template <auto Entry>
struct Wrap;
template <class Op, void (*KernelTable::*Entry)(Stream&, const Op&)>
struct Wrap<Entry> : Timed<Op, Entry> {};

KernelTable wrap(const KernelTable& inner) {
  using T = KernelTable;
  return {.name = inner.name,
          .instructions = inner.instructions,
          .products = inner.products,
          .device = inner.device,
          .native_bf16 = inner.native_bf16,
          .memory = inner.memory,
          .matmul = Wrap<&T::matmul>::under("product"),
          .matmul_quantized = Wrap<&T::matmul_quantized>::under("product x W^T, q8_0"),
          .dequantize = Wrap<&T::dequantize>::under("dequantize"),
          .rms_norm = Wrap<&T::rms_norm>::under("rms_norm"),
          .rms_norm_grad = Wrap<&T::rms_norm_grad>::under("rms_norm_grad"),
          .rope = Wrap<&T::rope>::under("rope"),
          .swiglu = Wrap<&T::swiglu>::under("swiglu"),
          .swiglu_grad = Wrap<&T::swiglu_grad>::under("swiglu_grad"),
          .attention = Wrap<&T::attention>::under("attention"),
          .attention_grad = Wrap<&T::attention_grad>::under("attention_grad"),
          .softmax_shares = Wrap<&T::softmax_shares>::under("softmax_shares"),
          .join_shares = Wrap<&T::join_shares>::under("join_shares"),
          .cross_entropy_grad = Wrap<&T::cross_entropy_grad>::under("cross_entropy_grad"),
          .embedding = Wrap<&T::embedding>::under("embedding"),
          .embedding_grad = Wrap<&T::embedding_grad>::under("embedding_grad"),
          .add = Wrap<&T::add>::under("add"),
          .scale = Wrap<&T::scale>::under("scale"),
          .add_bias = Wrap<&T::add_bias>::under("add_bias"),
          .bias_grad = Wrap<&T::bias_grad>::under("bias_grad"),
          .copy = Wrap<&T::copy>::under("copy"),
          .clear = Wrap<&T::clear>::under("clear"),
          .to_bf16 = Wrap<&T::to_bf16>::under("to_bf16"),
          .adamw = Wrap<&T::adamw>::under("adamw"),
          .sum_squares = Wrap<&T::sum_squares>::under("sum_squares"),
          .first_non_finite = Wrap<&T::first_non_finite>::under("first_non_finite")};
}

}  // namespace

profile::Cost cost_of(const MatMul& op) {
  const double inner = op.transpose_a ? op.a.rows : op.a.cols, outputs = static_cast<double>(op.c.size());
  return {2 * outputs * inner, bytes(op.a) + bytes(op.b) + bytes(op.c) * (op.accumulate ? 2 : 1)};
}

profile::Cost cost_of(const Attention& op) {
  constexpr double kProducts = 2;  // q k, p v
  return {kProducts * 2 * pairs_of(op.shape) * op.shape.head_width, 2 * bytes(op.q_NHK) + 2 * bytes(op.k_SGK)};
}

profile::Cost cost_of(const AttentionGrad& op) {
  constexpr double kProducts = 5;  // q k again, dp, dq, dk, dv
  return {kProducts * 2 * pairs_of(op.shape) * op.shape.head_width, 4 * bytes(op.q_NHK) + 4 * bytes(op.k_SGK)};
}

const KernelTable& profiled(const KernelTable& inner) {
  require(wrapped == nullptr || wrapped == &inner, "profiled: another table is wrapped already");
  wrapped = &inner;
  static const KernelTable table = wrap(inner);
  return table;
}

}  // namespace slipway
