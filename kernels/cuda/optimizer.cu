#include "kernels/body/optimizer.hpp"

#include "kernels/body/elementwise.hpp"
#include "kernels/checks.hpp"
#include "kernels/cuda/ops.cuh"
#include "kernels/cuda/rows.cuh"

namespace slipway::cuda {
namespace {

struct AdamWChunk {
  AdamW op;
  template <class T>
  __device__ void operator()(const T& team, std::size_t first, int count) const {
    body::adamw(team, op, first, count);
  }
};

struct MomentumChunk {
  MuonMomentum op;
  template <class T>
  __device__ void operator()(const T& team, std::size_t first, int count) const {
    body::muon_momentum(team, op, first, count);
  }
};
struct MuonUpdateChunk {
  MuonUpdate op;
  template <class T>
  __device__ void operator()(const T& team, std::size_t first, int count) const {
    body::muon_update(team, op, first, count);
  }
};

__global__ void __launch_bounds__(kBlockThreads) compute_clip_coef(const ClipCoef op) {
  const Block team;
  const body::ClipResult found = body::clip_coef(team, op);
  if (team.team_rank() != 0) return;
  *op.norm = found.norm;
  *op.factor = *op.reported_factor = found.factor;
}

struct NormalizeChunk {
  Normalize op;
  const double* squares;
  template <class T>
  __device__ void operator()(const T& team, std::size_t first, int count) const {
    const float factor = body::normalizing_factor(*squares, op.min_squares);
    body::scale(team, Scale{op.x, factor}, first, count);
  }
};

/// The sum of squares of one block of elements.
__global__ void __launch_bounds__(kBlockThreads) sum_squares_of_blocks(const float* x, std::size_t size, double* sums) {
  const Block team;
  const std::size_t first = blockIdx.x * kSumBlock;
  const int count = static_cast<int>(size - first < kSumBlock ? size - first : kSumBlock);
  const auto square = [](float value) { return static_cast<double>(value) * static_cast<double>(value); };
  const double sum = team.sum(count, square, x + first);
  if (team.team_rank() == 0) sums[blockIdx.x] = sum;
}

/// The sum of all block sums: each thread adds a contiguous range in order, then the threads are reduced.
__global__ void __launch_bounds__(kBlockThreads)
    reduce_block_sums(const double* sums, std::size_t blocks, double* result) {
  const Block team;
  const std::size_t count = (blocks + Block::kTeamSize - 1) / Block::kTeamSize, first = count * team.team_rank();
  double sum = 0;
  for (std::size_t i = first; i < first + count && i < blocks; ++i) sum += sums[i];
  sum = team.reduce(sum, Plus{});
  if (team.team_rank() == 0) *result = sum;
}

/// `*result` starts as -1, the largest value when read as unsigned.
__global__ void __launch_bounds__(kBlockThreads)
    find_non_finite(const float* x, std::size_t size, std::int64_t* result) {
  constexpr std::uint32_t kExponent = 0x7f800000u;  // these bits are all ones only in NaN and the infinities
  const std::size_t first = blockIdx.x * kChunk, end = first + kChunk < size ? first + kChunk : size;
  for (std::size_t i = first + threadIdx.x; i < end; i += kBlockThreads) {
    if ((__float_as_uint(x[i]) & kExponent) != kExponent) continue;
    atomicMin(reinterpret_cast<unsigned long long*>(result), static_cast<unsigned long long>(i));  // in any order
    return;
  }
}

/// `sums`: scratch memory for the block sums.
void sum_squares(const CudaStream& queue, const SumSquares& op, double* sums) {
  const std::size_t blocks = ceil_div(op.x.size(), kSumBlock);
  launch({.name = "sum_squares", .blocks = static_cast<std::int64_t>(blocks), .threads = kBlockThreads},
         sum_squares_of_blocks, queue.stream(), op.x.data(), op.x.size(), sums);
  launch({.name = "sum_squares", .blocks = 1, .threads = kBlockThreads}, reduce_block_sums, queue.stream(), sums,
         blocks, op.result);
}

}  // namespace

void adamw(Stream& stream, const AdamW& op) {
  check(op);
  for_each_chunk("adamw", stream, op.w.size(), AdamWChunk{op});
}

void muon_momentum(Stream& stream, const MuonMomentum& op) {
  check(op);
  for_each_chunk("muon_momentum", stream, op.g.size(), MomentumChunk{op});
}

void muon_update(Stream& stream, const MuonUpdate& op) {
  check(op);
  for_each_chunk("muon_update", stream, op.w.size(), MuonUpdateChunk{op});
}

void clip_coef(Stream& stream, const ClipCoef& op) {
  launch({.name = "clip_coef", .blocks = 1, .threads = kBlockThreads}, compute_clip_coef,
         cuda_stream_of(stream).stream(), op);
}

void sum_squares(Stream& stream, const SumSquares& op) {
  sum_squares(cuda_stream_of(stream), op, cuda_stream_of(stream).scratch_for<double>(op));
}

void normalize(Stream& stream, const Normalize& op) {
  CudaStream& queue = cuda_stream_of(stream);
  const std::size_t blocks = ceil_div(op.x.size(), kSumBlock);
  double* sums = queue.scratch_for<double>(op);
  double* squares = sums + blocks;
  sum_squares(queue, {op.x, squares}, sums);
  for_each_chunk("normalize", stream, op.x.size(), NormalizeChunk{op, squares});
}

void first_non_finite(Stream& stream, const FirstNonFinite& op) {
  const cudaStream_t queue = cuda_stream_of(stream).stream();
  check("first_non_finite", cudaMemsetAsync(op.result, 0xff, sizeof *op.result, queue));
  launch({.name = "first_non_finite",
          .blocks = static_cast<std::int64_t>(ceil_div(op.x.size(), kChunk)),
          .threads = kBlockThreads},
         find_non_finite, queue, op.x.data(), op.x.size(), op.result);
}

}  // namespace slipway::cuda
