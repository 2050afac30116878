#include "src/core/pieces.hpp"

#include <algorithm>
#include <iterator>

#include "src/core/error.hpp"

namespace slipway {

std::optional<std::size_t> Pieces::take(std::size_t bytes) {
  const std::size_t wanted = (std::max<std::size_t>(bytes, 1) + kGranule - 1) / kGranule * kGranule;
  const auto hole = std::ranges::find_if(holes_, [wanted](const auto& one) { return one.second >= wanted; });
  if (hole == holes_.end()) return std::nullopt;
  const auto [place, size] = *hole;
  holes_.erase(hole);
  if (size > wanted) holes_[place + wanted] = size - wanted;
  taken_[place] = wanted;
  top_ = std::max(top_, place + wanted);
  return place;
}

std::size_t Pieces::give_back(std::size_t place) {
  const auto found = taken_.find(place);
  require(found != taken_.end(), "Pieces::give_back: nothing is in use there");
  const std::size_t bytes = found->second;
  taken_.erase(found);
  auto hole = holes_.emplace(place, bytes).first;
  if (const auto next = std::next(hole); next != holes_.end() && next->first == place + bytes) {
    hole->second += next->second;
    holes_.erase(next);
  }
  if (hole != holes_.begin()) {
    const auto before = std::prev(hole);
    if (before->first + before->second == place) {
      before->second += hole->second;
      holes_.erase(hole);
    }
  }
  return bytes;
}

void Pieces::restart_top() { top_ = taken_.empty() ? 0 : taken_.rbegin()->first + taken_.rbegin()->second; }

}  // namespace slipway
