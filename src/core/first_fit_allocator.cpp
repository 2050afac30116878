#include "src/core/first_fit_allocator.hpp"

#include <algorithm>
#include <iterator>

#include "src/core/error.hpp"

namespace slipway {

std::optional<std::size_t> FirstFitAllocator::allocate(std::size_t bytes) {
  const std::size_t rounded = (std::max<std::size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  const auto free_range = std::ranges::find_if(free_, [rounded](const auto& range) { return range.second >= rounded; });
  if (free_range == free_.end()) return std::nullopt;
  const auto [offset, size] = *free_range;
  free_.erase(free_range);
  if (size > rounded) free_[offset + rounded] = size - rounded;
  used_[offset] = rounded;
  high_water_ = std::max(high_water_, offset + rounded);
  return offset;
}

std::size_t FirstFitAllocator::deallocate(std::size_t offset) {
  const auto it = used_.find(offset);
  require(it != used_.end(), "FirstFitAllocator::deallocate: nothing is in use there");
  const std::size_t bytes = it->second;
  used_.erase(it);
  auto free_range = free_.emplace(offset, bytes).first;
  if (const auto next = std::next(free_range); next != free_.end() && next->first == offset + bytes) {
    free_range->second += next->second;
    free_.erase(next);
  }
  if (free_range != free_.begin()) {
    const auto previous = std::prev(free_range);
    if (previous->first + previous->second == offset) {
      previous->second += free_range->second;
      free_.erase(free_range);
    }
  }
  return bytes;
}

void FirstFitAllocator::reset_high_water() {
  high_water_ = used_.empty() ? 0 : used_.rbegin()->first + used_.rbegin()->second;
}

}  // namespace slipway
