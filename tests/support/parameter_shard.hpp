// For tests of tensor parallelism: the shard of a tensor on a rank, and the relative error of gradients.
#pragma once

#include <cmath>
#include <span>
#include <vector>

#include "src/model/parameters.hpp"

namespace slipway::test {

/// This rank's shard of a whole tensor, padding included.
inline std::vector<float> local_shard(const Parameter& p, const std::vector<float>& full_tensor) {
  std::vector<float> shard(p.local_size(), 0.0f);
  for (int r = 0; r < p.unpadded_rows(); ++r)
    for (int c = 0; c < p.unpadded_cols(); ++c)
      shard[static_cast<std::size_t>(r * p.local_cols + c)] =
          full_tensor[static_cast<std::size_t>((p.first_row() + r) * p.cols + p.first_col() + c)];
  return shard;
}

/// Root of the mean squared difference, relative to the root of the mean square of `scale`.
inline double relative_error(std::span<const float> actual, std::span<const float> expected,
                             std::span<const float> scale) {
  double difference = 0, squares = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    difference += std::pow(static_cast<double>(actual[i]) - expected[i], 2);
    squares += std::pow(static_cast<double>(scale[i]), 2);
  }
  return std::sqrt(difference / squares);
}
inline double relative_error(std::span<const float> actual, std::span<const float> expected) {
  return relative_error(actual, expected, expected);
}

}  // namespace slipway::test
