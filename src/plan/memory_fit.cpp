#include "src/plan/memory_fit.hpp"

#include <algorithm>
#include <vector>

#include "src/core/clock.hpp"

namespace slipway {
namespace {

constexpr std::size_t kMaxTries = 64;  // of a level of recomputation: each is a dry run or two

/// Divisors, largest first: all of them, or every nth and 1.
std::vector<int> divisors_of(int value) {
  std::vector<int> found;
  for (std::int64_t d = 1; d * d <= value; ++d)
    if (value % d == 0) {
      found.push_back(static_cast<int>(d));
      if (d * d != value) found.push_back(static_cast<int>(value / d));
    }
  std::ranges::sort(found, std::ranges::greater());
  const std::size_t nth = (found.size() + kMaxTries - 1) / kMaxTries;
  std::vector<int> tried;
  for (std::size_t i = 0; i < found.size(); ++i)
    if (i % nth == 0 || i + 1 == found.size()) tried.push_back(found[i]);
  return tried;
}

}  // namespace

RunConfig smallest_run(RunConfig config, int data_ranks) {
  config.train.batch = config.numerics.slots = data_ranks, config.train.micro_batch = 1;
  config.train.recompute = "blocks";
  return config;
}

std::string micro_batch_that_fits(const RunConfig& config, const MemoryEstimator& bytes_of, std::uint64_t free) {
  const TrainConfig& now = config.train;
  std::vector<std::string> levels{config.recompute() == Recompute::kNone ? "norms" : now.recompute};
  if (config.recompute() != Recompute::kBlocks) levels.emplace_back("blocks");
  for (const std::string& recompute : levels) {
    const bool other = recompute != now.recompute;
    for (const int micro_batch : divisors_of(now.batch)) {
      const bool smaller = micro_batch < now.micro_batch;
      if (micro_batch > now.micro_batch || (!smaller && !other)) continue;
      RunConfig changed = config;
      changed.train.micro_batch = micro_batch, changed.train.recompute = recompute;
      const auto bytes = bytes_of(changed);
      if (!bytes || *bytes > free) continue;
      return join(smaller ? join("train.micro_batch = ", micro_batch) : "", smaller && other ? " and " : "",
                  other ? join("train.recompute = ", recompute) : "", " would take ",
                  human_bytes(static_cast<double>(*bytes)));
    }
  }
  return "";
}

}  // namespace slipway
