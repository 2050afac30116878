#include "src/data/mixture.hpp"

#include <algorithm>
#include <numeric>

#include "src/core/error.hpp"

namespace slipway {

constexpr std::int64_t kMaxRound = 1 << 20;  // shares to a millionth; 16 MiB

Mixture::Mixture(const std::vector<int>& shares) : shares_(shares) {
  const std::int64_t total = std::accumulate(shares.begin(), shares.end(), std::int64_t{0});
  require(!shares.empty() && *std::ranges::min_element(shares) >= 1 && total <= kMaxRound,
          "Mixture: shares are at least 1 each and 2^20 together");
  // The next sequence comes from the source that is furthest behind its share so far; of equals, the first.
  std::vector<std::int64_t> given(shares.size(), 0);
  for (std::int64_t place = 0; place < total; ++place) {
    const auto behind = [&](std::size_t s) { return shares[s] * (place + 1) - given[s] * total; };
    std::size_t next = 0;
    for (std::size_t s = 1; s < shares.size(); ++s)
      if (behind(s) > behind(next)) next = s;
    round_.push_back({next, static_cast<std::uint64_t>(given[next]++)});
  }
}

SourceSequence Mixture::at(std::uint64_t sequence) const {
  const auto [source, index] = round_[sequence % round_.size()];
  return {source, sequence / round_.size() * static_cast<std::uint64_t>(shares_[source]) + index};
}

std::uint64_t Mixture::count(std::size_t source, std::uint64_t sequences) const {
  const auto rest = static_cast<std::ptrdiff_t>(sequences % round_.size());
  const auto in_rest = std::count_if(round_.begin(), round_.begin() + rest,
                                     [=](const SourceSequence& one) { return one.source == source; });
  return sequences / round_.size() * static_cast<std::uint64_t>(shares_.at(source)) +
         static_cast<std::uint64_t>(in_rest);
}

}  // namespace slipway
