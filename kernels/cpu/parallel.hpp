// Loops over rows and blocks, shared out over OpenMP's threads. Which thread runs a row never changes its result.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/backend/stream.hpp"
#include "kernels/team.hpp"

namespace slipway::cpu {

int threads_of(const Stream& stream);  ///< that its ops may use, at least 1

/// Threads worth waking for so many elements: below the bound, waking them costs more than the work
/// (about 5 us against 16k elements at 4 a ns).
inline int threads_for(const Stream& stream, std::int64_t elements) {
  constexpr std::int64_t kSerialBelow = 16384;
  return elements < kSerialBelow ? 1 : threads_of(stream);
}

/// `act(r)` for every row r of `rows`, each of about `cols` elements.
template <class Act>
void for_each_row(const Stream& stream, int rows, int cols, const Act& act) {
  [[maybe_unused]] const int workers = threads_for(stream, std::int64_t{rows} * cols);
#pragma omp parallel for schedule(static) num_threads(workers)
  for (int r = 0; r < rows; ++r) act(r);
}

/// `act(block, first, count)` for every block of at most `block_size` of `size` elements, each worth `weight` of them.
template <class Act>
void for_each_block(const Stream& stream, std::size_t size, std::size_t block_size, std::int64_t weight,
                    const Act& act) {
  const auto blocks = static_cast<std::int64_t>((size + block_size - 1) / block_size);
  [[maybe_unused]] const int workers = threads_for(stream, static_cast<std::int64_t>(size) * weight);
#pragma omp parallel for schedule(static) num_threads(workers)
  for (std::int64_t block = 0; block < blocks; ++block) {
    const std::size_t first = static_cast<std::size_t>(block) * block_size;
    act(block, first, static_cast<int>(std::min(block_size, size - first)));
  }
}

/// A stretch of a flat range that a thread takes at once: 32 KB of f32.
inline constexpr std::size_t kChunk = 8192;

}  // namespace slipway::cpu
