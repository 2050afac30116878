#include "src/core/first_fit_allocator.hpp"

#include <algorithm>
#include <iterator>

#include "src/core/error.hpp"

namespace slipway {

std::optional<std::size_t> FirstFitAllocator::allocate(std::size_t bytes) {
  const std::size_t wanted = (std::max<std::size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  const auto hole = std::ranges::find_if(free_, [wanted](const auto& one) { return one.second >= wanted; });
  if (hole == free_.end()) return std::nullopt;
  const auto [place, size] = *hole;
  free_.erase(hole);
  if (size > wanted) free_[place + wanted] = size - wanted;
  used_[place] = wanted;
  high_water_ = std::max(high_water_, place + wanted);
  return place;
}

std::size_t FirstFitAllocator::deallocate(std::size_t place) {
  const auto found = used_.find(place);
  require(found != used_.end(), "FirstFitAllocator::deallocate: nothing is in use there");
  const std::size_t bytes = found->second;
  used_.erase(found);
  auto hole = free_.emplace(place, bytes).first;
  if (const auto next = std::next(hole); next != free_.end() && next->first == place + bytes) {
    hole->second += next->second;
    free_.erase(next);
  }
  if (hole != free_.begin()) {
    const auto before = std::prev(hole);
    if (before->first + before->second == place) {
      before->second += hole->second;
      free_.erase(hole);
    }
  }
  return bytes;
}

void FirstFitAllocator::reset_high_water() {
  high_water_ = used_.empty() ? 0 : used_.rbegin()->first + used_.rbegin()->second;
}

}  // namespace slipway
