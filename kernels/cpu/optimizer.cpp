#include "kernels/body/optimizer.hpp"

#include <bit>
#include <vector>

#include "kernels/checks.hpp"
#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/parallel.hpp"

namespace slipway::cpu {

void adamw(Stream& stream, const AdamW& op) {
  check(op);
  for_each_block(stream, op.w.size(), kChunk, 4,
                 [&](std::int64_t, std::size_t first, int count) { body::adamw(SerialTeam{}, op, first, count); });
}

void muon_momentum(Stream& stream, const MuonMomentum& op) {
  check(op);
  for_each_block(stream, op.g.size(), kChunk, 2, [&](std::int64_t, std::size_t first, int count) {
    body::muon_momentum(SerialTeam{}, op, first, count);
  });
}

void muon_update(Stream& stream, const MuonUpdate& op) {
  check(op);
  for_each_block(stream, op.w.size(), kChunk, 2, [&](std::int64_t, std::size_t first, int count) {
    body::muon_update(SerialTeam{}, op, first, count);
  });
}

void clip_coef(Stream&, const ClipCoef& op) {
  const body::ClipResult result = body::clip_coef(SerialTeam{}, op);
  *op.norm = result.norm;
  *op.factor = *op.reported_factor = result.factor;
}

void normalize(Stream& stream, const Normalize& op) {
  double squares = 0;
  sum_squares(stream, {op.x, &squares});
  scale(stream, {op.x, body::normalizing_factor(squares, op.min_squares)});
}

void sum_squares(Stream& stream, const SumSquares& op) {
  constexpr std::size_t kBlock = 4096;  // promised in kernels/optimizer.hpp
  static thread_local std::vector<double> buffer;
  buffer.resize((op.x.size() + kBlock - 1) / kBlock);
  const std::span<double> block_sums = buffer;  // the calling thread's, shared with the other threads
  for_each_block(stream, op.x.size(), kBlock, 1, [&](std::int64_t block, std::size_t first, int count) {
    const float* x = op.x.data() + first;
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < count; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    block_sums[static_cast<std::size_t>(block)] = sum;
  });
  double total = 0;
  for (const double sum : block_sums) total += sum;
  *op.result = total;
}

void first_non_finite(Stream& stream, const FirstNonFinite& op) {
  static thread_local std::vector<std::int64_t> buffer;
  buffer.assign((op.x.size() + kChunk - 1) / kChunk, -1);
  const std::span<std::int64_t> first_positions = buffer;  // the calling thread's, shared with the other threads
  for_each_block(stream, op.x.size(), kChunk, 1, [&](std::int64_t block, std::size_t first, int count) {
    constexpr std::uint32_t kExponent = 0x7f800000u;  // these bits are all ones only in NaN and the infinities
    const float* x = op.x.data() + first;
    int non_finite = 0;
#pragma omp simd reduction(| : non_finite)
    for (int i = 0; i < count; ++i) non_finite |= (std::bit_cast<std::uint32_t>(x[i]) & kExponent) == kExponent ? 1 : 0;
    if (non_finite == 0) return;
    int i = 0;
    while ((std::bit_cast<std::uint32_t>(x[i]) & kExponent) != kExponent) ++i;
    first_positions[static_cast<std::size_t>(block)] = static_cast<std::int64_t>(first) + i;
  });
  *op.result = -1;
  for (const std::int64_t position : first_positions) {
    if (position < 0) continue;
    *op.result = position;
    break;
  }
}

}  // namespace slipway::cpu
