// Loops over rows and blocks, divided among OpenMP's threads. Which thread runs a row never changes its result.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/backend/stream.hpp"
#include "kernels/team.hpp"

namespace slipway::cpu {

int max_threads(const Stream& stream);  ///< the number of threads that ops on this stream may use, at least 1

/// The number of threads for a loop over this many elements: one below 16k elements, which take one thread 4 us (4 a
/// ns), less than the 5 us that waking the others takes.
inline int threads_for(const Stream& stream, std::int64_t elements) {
  constexpr std::int64_t kSerialBelow = 16384;
  return elements < kSerialBelow ? 1 : max_threads(stream);
}

/// `fn(r)` for every row r of `rows`, each of about `cols` elements.
template <class Fn>
void for_each_row(const Stream& stream, int rows, int cols, const Fn& fn) {
  [[maybe_unused]] const int workers = threads_for(stream, std::int64_t{rows} * cols);
#pragma omp parallel for schedule(static) num_threads(workers)
  for (int r = 0; r < rows; ++r) fn(r);
}

/// Calls `fn(block, first, count)` for every block of `block_size` elements of [0, size); the last block may be
/// shorter. `cost` is that of one element, relative to a simple one.
template <class Fn>
void for_each_block(const Stream& stream, std::size_t size, std::size_t block_size, std::int64_t cost, const Fn& fn) {
  const auto blocks = static_cast<std::int64_t>((size + block_size - 1) / block_size);
  [[maybe_unused]] const int workers = threads_for(stream, static_cast<std::int64_t>(size) * cost);
#pragma omp parallel for schedule(static) num_threads(workers)
  for (std::int64_t block = 0; block < blocks; ++block) {
    const std::size_t first = static_cast<std::size_t>(block) * block_size;
    fn(block, first, static_cast<int>(std::min(block_size, size - first)));
  }
}

/// Elements of a flat range that a thread processes at once: 32 KB of f32.
inline constexpr std::size_t kChunk = 8192;

}  // namespace slipway::cpu
