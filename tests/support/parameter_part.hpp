// For tests of tensor parallelism: the shard of a tensor on a rank, and the relative error of gradients.
#pragma once

#include <cmath>
#include <span>
#include <vector>

#include "src/model/parameters.hpp"

namespace slipway::test {

/// This rank's shard of a whole tensor, padding included.
inline std::vector<float> part_of(const Parameter& p, const std::vector<float>& whole) {
  std::vector<float> part(p.local_size(), 0.0f);
  for (int r = 0; r < p.unpadded_rows(); ++r)
    for (int c = 0; c < p.unpadded_cols(); ++c)
      part[static_cast<std::size_t>(r * p.local_cols + c)] =
          whole[static_cast<std::size_t>((p.first_row() + r) * p.cols + p.first_col() + c)];
  return part;
}

/// Root of the mean squared difference, relative to the root of the mean square of `size`.
inline double relative_error(std::span<const float> got, std::span<const float> want, std::span<const float> size) {
  double difference = 0, squares = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    difference += std::pow(static_cast<double>(got[i]) - want[i], 2);
    squares += std::pow(static_cast<double>(size[i]), 2);
  }
  return std::sqrt(difference / squares);
}
inline double relative_error(std::span<const float> got, std::span<const float> want) {
  return relative_error(got, want, want);
}

}  // namespace slipway::test
