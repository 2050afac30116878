// Maps row formulas to a GPU: a few threads per head, a warp per short row, a block per long row.
#pragma once

#include <algorithm>
#include <type_traits>

#include "kernels/cuda/cuda_stream.cuh"
#include "kernels/cuda/team.cuh"

namespace slipway::cuda {

inline constexpr int kBlockThreads = 256;
inline constexpr int kBlockWarps = kBlockThreads / kWarpSize;
inline constexpr int kSubWarpThreads = 8;
inline constexpr int kMaxSubWarpCols = kSubWarpThreads * kPack;  // longest row of a SubWarp team: one pack per thread
inline constexpr int kMaxWarpCols = 1024;                        // longest row of a Warp team: 32 elements per thread

/// Resident threads per SM that a row kernel is compiled for: few enough that a thread holds the packs of several rows
/// in registers without spilling.
inline constexpr int kResidentThreads = 768;

using SubWarp = VectorizedTeam<TileTeam<kSubWarpThreads>>;
using Warp = VectorizedTeam<TileTeam<kWarpSize>>;
using Block = VectorizedTeam<BlockTeam<kBlockThreads>>;

/// `row(team, r)`, one row r per team of a warp's threads, or of some of them.
template <class Team, class Row>
__global__ void __launch_bounds__(kBlockThreads, kResidentThreads / kBlockThreads) team_rows(const Row row, int rows) {
  const int r = static_cast<int>((blockIdx.x * kBlockThreads + threadIdx.x) / Team::kTeamSize);
  if (r < rows) row(Team{}, r);
}

/// `row(team, r)`, one row r per block.
template <class Row>
__global__ void __launch_bounds__(kBlockThreads, kResidentThreads / kBlockThreads) block_rows(const Row row) {
  row(Block{}, static_cast<int>(blockIdx.x));
}

/// `row(team, r)` for `rows` rows, each by one Team: SubWarp or Warp. `Row` holds a formula and its op, and is copied
/// to the device.
template <class Team, class Row>
void for_each_row_by(const char* name, const Stream& stream, int rows, const Row& row) {
  constexpr int kTeams = kBlockThreads / Team::kTeamSize;
  launch({.name = name, .blocks = (rows + kTeams - 1) / kTeams, .threads = kBlockThreads}, team_rows<Team, Row>,
         cuda_stream_of(stream).stream(), row, rows);
}

/// `row(team, r)` for `rows` rows of `cols` elements, by teams of a size that fits `cols`.
template <class Row>
void for_each_row(const char* name, const Stream& stream, int rows, int cols, const Row& row) {
  if (cols <= kMaxSubWarpCols) return for_each_row_by<SubWarp>(name, stream, rows, row);
  if (cols <= kMaxWarpCols) return for_each_row_by<Warp>(name, stream, rows, row);
  launch({.name = name, .blocks = rows, .threads = kBlockThreads}, block_rows<Row>, cuda_stream_of(stream).stream(),
         row);
}

/// `fn(team, first, count)`, one chunk of a flat range per block.
template <class Fn>
__global__ void __launch_bounds__(kBlockThreads, kResidentThreads / kBlockThreads)
    chunks(const Fn fn, std::size_t size) {
  const std::size_t first = blockIdx.x * kChunk;
  fn(Block{}, first, static_cast<int>(size - first < kChunk ? size - first : kChunk));
}

/// `fn(team, first, count)` for every chunk of `size` elements.
template <class Fn>
void for_each_chunk(const char* name, const Stream& stream, std::size_t size, const Fn& fn) {
  launch({.name = name, .blocks = static_cast<std::int64_t>(ceil_div(size, kChunk)), .threads = kBlockThreads},
         chunks<Fn>, cuda_stream_of(stream).stream(), fn, size);
}

/// `add_row(team, r, sum_D)` for the rows of one group, in order, into the group's own sums, kRows times D elements.
template <int kThreads, int kRows, class RowSink>
__global__ void __launch_bounds__(kThreads, kResidentThreads / kThreads)
    sum_groups(const RowSink add_row, int rows, int D, float* sums_GD) {
  const VectorizedTeam<BlockTeam<kThreads>> team;
  const int first = static_cast<int>(blockIdx.x) * kSumRows, end = first + kSumRows < rows ? first + kSumRows : rows;
  float* sum_D = sums_GD + std::int64_t{blockIdx.x} * kRows * D;
  for (int i = 0; i < kRows; ++i)
    team.for_each(
        D, [](float& sum) { sum = 0.0f; }, write_only(sum_D + i * D));
  for (int r = first; r < end; ++r) add_row(team, r, sum_D);  // each thread accesses only its own columns
}

/// `total_D[d] += sums_GD[0,d] + sums_GD[1,d] + ...`, in order; groups are `stride` elements apart. total_D is first_D
/// or second_D of `totals`, by the block's y index.
template <int kThreads>
__global__ void __launch_bounds__(kThreads)
    add_groups(const float* sums_GD, int groups, int stride, int D, RowTotals totals) {
  const int d = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (d >= D) return;
  float* total_D = blockIdx.y == 0 ? totals.first_D : totals.second_D;
  const float* sums = sums_GD + static_cast<int>(blockIdx.y) * D + d;
  float total = total_D[d];
  for (int g = 0; g < groups; ++g) total += sums[std::int64_t{g} * stride];
  total_D[d] = total;
}

/// Calls `add_row(team, r, sum_D)`, which adds row r to sum_D, for all rows, and adds the result to `totals.first_D`:
/// groups of 64 rows, their sums in order, as on the CPU. With kRows = 2, add_row adds to 2 D elements, of which the
/// second D go to `totals.second_D`.
template <int kRows = 1, class RowSink>
void sum_rows(const char* name, const Stream& stream, int rows, int D, RowTotals totals, const RowSink& add_row) {
  CudaStream& queue = cuda_stream_of(stream);
  const int groups = (rows + kSumRows - 1) / kSumRows;
  float* sums_GD = static_cast<float*>(queue.scratch(row_sums_bytes(rows, kRows * D)));
  const auto launch_sums = [&]<int kThreads>(std::integral_constant<int, kThreads>) {
    launch({.name = name, .blocks = groups, .threads = kThreads}, sum_groups<kThreads, kRows, RowSink>, queue.stream(),
           add_row, rows, D, sums_GD);
  };
  if (D <= kWarpSize * kPack) launch_sums(std::integral_constant<int, kWarpSize>{});
  else if (D <= kMaxWarpCols) launch_sums(std::integral_constant<int, kMaxWarpCols / kPack>{});
  else launch_sums(std::integral_constant<int, kBlockThreads>{});
  launch({.name = name,
          .blocks = groups == 0 ? 0 : (D + kBlockThreads - 1) / kBlockThreads,
          .blocks_y = totals.second_D == nullptr ? 1 : kRows,
          .threads = kBlockThreads},
         add_groups<kBlockThreads>, queue.stream(), sums_GD, groups, kRows * D, D, totals);
}

}  // namespace slipway::cuda
