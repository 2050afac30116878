#include "kernels/instrument/cost.hpp"

#include <vector>

namespace slipway {
namespace {

using profile::Cost;

double count(const ConstTensorView& m) { return static_cast<double>(m.size()); }
double bytes(const ConstTensorView& m) { return count(m) * static_cast<double>(bytes_of(m.dtype)); }

/// An op that reads and writes `accesses` f32 elements and computes `flops_per_result` operations for each of
/// `results`.
Cost f32_cost(double accesses, double flops_per_result, double results) {
  return {flops_per_result * results, 4.0 * accesses};
}

/// Unmasked query-key pairs, over all sequences and heads.
double unmasked_pairs(const AttentionShape& s, MemorySpace& memory) {
  std::vector<int> first_keys(static_cast<std::size_t>(s.sequences) * static_cast<std::size_t>(s.queries));
  if (s.key_start_BT != nullptr) memory.read(first_keys.data(), s.key_start_BT, first_keys.size() * sizeof(int));
  double pairs = 0;
  for (int b = 0; b < s.sequences; ++b)
    for (int t = 0; t < s.queries; ++t)
      pairs += t + s.keys - s.queries - first_keys[static_cast<std::size_t>(b * s.queries + t)] + 1;
  return pairs * s.heads;
}

double bytes(const QuantizedRows& w) {
  return static_cast<double>(
      QuantizedRows::bytes(static_cast<std::uint64_t>(w.rows) * static_cast<std::uint64_t>(w.cols)));
}

/// x and dy are read, dx is written; the second read comes from the cache.
template <class Grad>
double norm_grad_bytes(const Grad& op) {
  return (op.accumulate_dx ? 4 : 3) * bytes(op.x_RD) + (op.dx_bf16_RD.data == nullptr ? 0 : 2 * count(op.x_RD));
}
}  // namespace

Cost cost_of(const RmsNorm& op, MemorySpace&) { return {4 * count(op.x_RD), bytes(op.x_RD) + bytes(op.y_RD)}; }
Cost cost_of(const RmsNormGrad& op, MemorySpace&) { return {9 * count(op.x_RD), norm_grad_bytes(op)}; }
Cost cost_of(const LayerNorm& op, MemorySpace&) {
  return {(op.bias_D == nullptr ? 6 : 7) * count(op.x_RD), bytes(op.x_RD) + bytes(op.y_RD)};
}
Cost cost_of(const LayerNormGrad& op, MemorySpace&) { return {16 * count(op.x_RD), norm_grad_bytes(op)}; }
Cost cost_of(const Rope& op, MemorySpace&) { return {3 * count(op.x_NHK), 2 * bytes(op.x_NHK)}; }
Cost cost_of(const Swiglu& op, MemorySpace&) { return {5 * count(op.gate_RF), 3 * bytes(op.gate_RF)}; }
Cost cost_of(const SwigluGrad& op, MemorySpace&) {
  return {11 * count(op.gate_RF), (op.y_RF.data == nullptr ? 5 : 6) * bytes(op.gate_RF)};
}
Cost cost_of(const Gelu& op, MemorySpace&) { return {8 * count(op.x_RF), 2 * bytes(op.x_RF)}; }
Cost cost_of(const GeluGrad& op, MemorySpace&) {
  return {16 * count(op.x_RF), (op.y_RF.data == nullptr ? 3 : 4) * bytes(op.x_RF)};
}
Cost cost_of(const SoftmaxPartials& op, MemorySpace&) {
  return {3 * count(op.logits_RV), bytes(op.logits_RV) + (op.exp_RV.data == nullptr ? 0 : bytes(op.exp_RV))};
}
Cost cost_of(const CrossEntropyGrad& op, MemorySpace&) { return {2 * count(op.exp_RV), 2 * bytes(op.exp_RV)}; }
Cost cost_of(const Sample& op, MemorySpace&) {
  const double mask = op.allowed_BV.data == nullptr ? 0 : static_cast<double>(op.allowed_BV.size());
  return {(op.is_random() ? 5 : 1) * count(op.logits_BV), bytes(op.logits_BV) + mask};
}
Cost cost_of(const Embedding& op, MemorySpace&) {
  return op.accumulate ? f32_cost(3 * count(op.y_ND), 1, count(op.y_ND)) : f32_cost(2 * count(op.y_ND), 0, 0);
}
Cost cost_of(const EmbeddingGrad& op, MemorySpace&) { return f32_cost(3 * count(op.dy_ND), 1, count(op.dy_ND)); }
Cost cost_of(const Add& op, MemorySpace&) {
  return f32_cost(3.0 * static_cast<double>(op.x.size()), 1, static_cast<double>(op.x.size()));
}
Cost cost_of(const Scale& op, MemorySpace&) {
  return f32_cost(2.0 * static_cast<double>(op.x.size()), 1, static_cast<double>(op.x.size()));
}
Cost cost_of(const AddBias& op, MemorySpace&) { return {count(op.y_RD), 2 * bytes(op.y_RD)}; }
Cost cost_of(const BiasGrad& op, MemorySpace&) { return {count(op.dy_RD), bytes(op.dy_RD)}; }
Cost cost_of(const Copy& op, MemorySpace&) { return {0, 2 * bytes(op.x_RD)}; }
Cost cost_of(const Clear& op, MemorySpace&) { return {0, bytes(op.x_RD)}; }
Cost cost_of(const ToBf16& op, MemorySpace&) { return {0, 6 * count(op.x_RD)}; }
Cost cost_of(const AdamW& op, MemorySpace&) {
  const auto size = static_cast<double>(op.w.size());
  return {14 * size, 28 * size + 2 * static_cast<double>(op.w_bf16.size())};
}
Cost cost_of(const MuonMomentum& op, MemorySpace&) {
  return f32_cost(4.0 * static_cast<double>(op.g.size()), 4, static_cast<double>(op.g.size()));
}
Cost cost_of(const MuonUpdate& op, MemorySpace&) {
  const auto size = static_cast<double>(op.w.size());
  return {3 * size, 12 * size + 2 * static_cast<double>(op.w_bf16.size())};
}
Cost cost_of(const ClipCoef& op, MemorySpace&) {
  const double elements =
      2.0 * op.tensor_parallel_size * op.data_parallel_size * op.slots + static_cast<double>(op.losses.size());
  return {elements, 8 * elements};
}
Cost cost_of(const WeightedSum& op, MemorySpace&) { return f32_cost(2.0 * op.count, 2, op.count); }
Cost cost_of(const Normalize& op, MemorySpace&) {
  return f32_cost(3.0 * static_cast<double>(op.x.size()), 3, static_cast<double>(op.x.size()));
}
Cost cost_of(const SumSquares& op, MemorySpace&) {
  return f32_cost(static_cast<double>(op.x.size()), 2, static_cast<double>(op.x.size()));
}
Cost cost_of(const MergePartials& op, MemorySpace&) {
  return f32_cost(4.0 * op.rows * op.count, 20, static_cast<double>(op.rows) * op.count);
}
Cost cost_of(const FirstNonFinite& op, MemorySpace&) { return f32_cost(static_cast<double>(op.x.size()), 0, 0); }

Cost cost_of(const Dequantize& op, MemorySpace&) {
  const double size = static_cast<double>(op.out.size());
  return {size, bytes(op.w) + 4 * size};
}
Cost cost_of(const MatMulQuantized& op, MemorySpace&) {
  return {2.0 * static_cast<double>(op.c.size()) * op.w.cols, bytes(op.a) + bytes(op.w) + bytes(op.c)};
}

Cost cost_of(const MatMul& op, MemorySpace&) {
  const double inner = op.transpose_a ? op.a.rows : op.a.cols, outputs = static_cast<double>(op.c.size());
  return {2 * outputs * inner,
          bytes(op.a) + bytes(op.b) + bytes(op.c) * (op.accumulate || op.residual.data != nullptr ? 2 : 1)};
}

Cost cost_of(const Attention& op, MemorySpace& memory) {
  constexpr double kMatmuls = 2;  // q k, p v
  return {kMatmuls * 2 * unmasked_pairs(op.shape, memory) * op.shape.head_width,
          2 * bytes(op.q_NHK) + 2 * bytes(op.k_SGK)};
}

Cost cost_of(const AttentionGrad& op, MemorySpace& memory) {
  constexpr double kMatmuls = 5;  // q k recomputed, dp, dq, dk, dv
  return {kMatmuls * 2 * unmasked_pairs(op.shape, memory) * op.shape.head_width,
          4 * bytes(op.q_NHK) + 4 * bytes(op.k_SGK)};
}

}  // namespace slipway
