#include "src/plan/memory_fit.hpp"

#include <algorithm>
#include <vector>

#include "src/core/clock.hpp"

namespace slipway {
namespace {

constexpr std::size_t kMaxTries = 64;  // of a level of recomputation: each is a dry run or two

/// Divisors, largest first: all of them, or every nth and 1.
std::vector<int> divisors_of(int value) {
  std::vector<int> divisors;
  for (std::int64_t d = 1; d * d <= value; ++d)
    if (value % d == 0) {
      divisors.push_back(static_cast<int>(d));
      if (d * d != value) divisors.push_back(static_cast<int>(value / d));
    }
  std::ranges::sort(divisors, std::ranges::greater());
  const std::size_t stride = (divisors.size() + kMaxTries - 1) / kMaxTries;
  std::vector<int> sampled;
  for (std::size_t i = 0; i < divisors.size(); ++i)
    if (i % stride == 0 || i + 1 == divisors.size()) sampled.push_back(divisors[i]);
  return sampled;
}

}  // namespace

RunConfig min_memory_config(RunConfig config, int data_parallel_size) {
  config.train.batch = config.numerics.slots = data_parallel_size, config.train.micro_batch = 1;
  config.train.recompute = "blocks";
  return config;
}

std::string suggest_memory_fix(const RunConfig& config, const MemoryEstimator& bytes_of, std::uint64_t free_bytes) {
  const TrainConfig& train = config.train;
  std::vector<std::string> levels{config.recompute() == Recompute::kNone ? "norms" : train.recompute};
  if (config.recompute() != Recompute::kBlocks) levels.emplace_back("blocks");
  for (const std::string& recompute : levels) {
    const bool changes_recompute = recompute != train.recompute;
    for (const int micro_batch : divisors_of(train.batch)) {
      const bool is_smaller = micro_batch < train.micro_batch;
      if (micro_batch > train.micro_batch || (!is_smaller && !changes_recompute)) continue;
      RunConfig changed = config;
      changed.train.micro_batch = micro_batch, changed.train.recompute = recompute;
      const auto bytes = bytes_of(changed);
      if (!bytes || *bytes > free_bytes) continue;
      return join(is_smaller ? join("train.micro_batch = ", micro_batch) : "",
                  is_smaller && changes_recompute ? " and " : "",
                  changes_recompute ? join("train.recompute = ", recompute) : "", " would take ",
                  human_bytes(static_cast<double>(*bytes)));
    }
  }
  return "";
}

}  // namespace slipway
