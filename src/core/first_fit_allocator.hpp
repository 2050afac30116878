// A first-fit allocator of ranges.
#pragma once

#include <cstddef>
#include <map>
#include <optional>

namespace slipway {

/// First-fit allocation of ranges of [0, size), aligned to kAlignment. Deterministic: the same sequence of allocations
/// and deallocations gives the same offsets, so the peak that a dry run measures is the peak of the run.
class FirstFitAllocator {
 public:
  static constexpr std::size_t kAlignment = 512;  ///< as cudaMalloc's

  explicit FirstFitAllocator(std::size_t size) { free_[0] = size; }

  /// Allocates `bytes` and returns their offset; nullopt where no free range is large enough.
  std::optional<std::size_t> allocate(std::size_t bytes);
  /// Frees the range that begins at `offset` and returns its size in bytes.
  std::size_t deallocate(std::size_t offset);

  bool empty() const { return used_.empty(); }
  std::size_t high_water() const {
    return high_water_;
  }  ///< the largest end of an allocated range since reset_high_water()
  void reset_high_water();

 private:
  std::map<std::size_t, std::size_t> free_, used_;  // offset and bytes of each
  std::size_t high_water_ = 0;
};

}  // namespace slipway
