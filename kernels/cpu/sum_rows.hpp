// Sums over rows in a fixed order: blocks of 64 rows, block sums in order, whatever the number of threads.
#pragma once

#include <vector>

#include "kernels/cpu/parallel.hpp"

namespace slipway::cpu {

/// Calls `add_row(r, sum_D)`, which adds row r to sum_D, for all rows, and adds the result to `totals.first_D`. With
/// kRows = 2, add_row adds to 2 D elements, of which the second D go to `totals.second_D`.
template <int kRows = 1, class RowSink>
void sum_rows(const Stream& stream, int rows, int D, RowTotals totals, const RowSink& add_row) {
  constexpr std::size_t kBlockRows = 64;  // promised in kernels/{rms_norm,layer_norm,elementwise}.hpp
  const std::size_t width = kRows * static_cast<std::size_t>(D);
  static thread_local std::vector<float> block_sums;  // reused, so that a step allocates nothing
  block_sums.assign((static_cast<std::size_t>(rows) + kBlockRows - 1) / kBlockRows * width, 0.0f);
  float* sums_BD = block_sums.data();

  for_each_block(stream, static_cast<std::size_t>(rows), kBlockRows, D,
                 [&](std::int64_t block, std::size_t first, int count) {
                   float* sum_D = sums_BD + static_cast<std::size_t>(block) * width;
                   for (int i = 0; i < count; ++i) add_row(static_cast<int>(first) + i, sum_D);
                 });
  const auto add = [](float sum, float& total) { total += sum; };
  for (const float *sum_D = sums_BD, *end = sums_BD + block_sums.size(); sum_D != end; sum_D += width) {
    SerialTeam{}.for_each(D, add, sum_D, totals.first_D);
    if (totals.second_D != nullptr) SerialTeam{}.for_each(D, add, sum_D + D, totals.second_D);
  }
}

}  // namespace slipway::cpu
