#include "src/data/mixture.hpp"

#include <algorithm>
#include <numeric>

#include "src/core/error.hpp"

namespace slipway {

constexpr std::int64_t kMaxCycle = 1 << 20;  // shares to a millionth; 16 MiB

Mixture::Mixture(const std::vector<int>& shares) : shares_(shares) {
  const std::int64_t total = std::accumulate(shares.begin(), shares.end(), std::int64_t{0});
  require(!shares.empty() && *std::ranges::min_element(shares) >= 1 && total <= kMaxCycle,
          "Mixture: shares are at least 1 each and 2^20 together");
  // The next sequence comes from the source that is furthest behind its share so far; of equals, the first.
  std::vector<std::int64_t> counts(shares.size(), 0);
  for (std::int64_t position = 0; position < total; ++position) {
    const auto deficit = [&](std::size_t s) { return shares[s] * (position + 1) - counts[s] * total; };
    std::size_t next = 0;
    for (std::size_t s = 1; s < shares.size(); ++s)
      if (deficit(s) > deficit(next)) next = s;
    cycle_.push_back({next, static_cast<std::uint64_t>(counts[next]++)});
  }
}

SourceSequence Mixture::at(std::uint64_t sequence) const {
  const auto [source, index] = cycle_[sequence % cycle_.size()];
  return {source, sequence / cycle_.size() * static_cast<std::uint64_t>(shares_[source]) + index};
}

std::uint64_t Mixture::count(std::size_t source, std::uint64_t sequences) const {
  const auto remainder = static_cast<std::ptrdiff_t>(sequences % cycle_.size());
  const auto in_remainder = std::count_if(cycle_.begin(), cycle_.begin() + remainder,
                                          [=](const SourceSequence& one) { return one.source == source; });
  return sequences / cycle_.size() * static_cast<std::uint64_t>(shares_.at(source)) +
         static_cast<std::uint64_t>(in_remainder);
}

}  // namespace slipway
