#include "src/plan/host_memory_check.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <optional>

#include "src/core/clock.hpp"
#include "src/core/memory.hpp"
#include "src/core/words.hpp"
#include "src/plan/memory_fit.hpp"
#include "src/plan/plan.hpp"

namespace slipway {
namespace {

constexpr int kMinSequence = 32;  // a change that is offered must be of some use

std::string bytes_text(std::uint64_t bytes) { return human_bytes(static_cast<double>(bytes)); }

/// The bytes that the run would take; nothing where the ranks cannot share its micro-batches.
std::optional<std::uint64_t> try_needed_bytes(const RunConfig& config, const ModelSpec& model, int data_parallel_size) {
  try {
    return host_bytes(config, model, data_parallel_size);
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::string suggest_slots(const RunConfig& config, const MemoryEstimator& bytes_of, std::uint64_t free_bytes) {
  RunConfig changed = config;
  for (int slots = config.numerics.slots / 2; slots >= 1; slots /= 2) {
    changed.numerics.slots = slots;
    const auto bytes = bytes_of(changed);
    if (bytes && *bytes <= free_bytes) return join("numerics.slots = ", slots, " would take ", bytes_text(*bytes));
  }
  return "";
}

std::string suggest_sequence(const RunConfig& config, const MemoryEstimator& bytes_of, std::uint64_t free_bytes) {
  RunConfig changed = config;
  const auto longest = static_cast<int>(std::bit_floor(static_cast<unsigned>(config.train.sequence - 1)));
  for (int sequence = longest; sequence >= kMinSequence; sequence /= 2) {
    changed.train.sequence = sequence;
    const auto bytes = bytes_of(changed);
    if (bytes && *bytes <= free_bytes) return join("train.sequence = ", sequence, " would take ", bytes_text(*bytes));
  }
  return "";
}

std::string suggest_ranks(const RunConfig& config, const ModelSpec& model, int data_parallel_size,
                          const HostMemoryBudget& budget) {
  const auto bytes =
      try_needed_bytes(config, model, data_parallel_size);  // of a layout with as many ranks on more hosts
  for (int ranks = budget.ranks / 2; ranks >= 1; ranks /= 2)
    if (bytes && *bytes <= budget.free_bytes / static_cast<std::uint64_t>(ranks))
      return join("start ", pluralize(ranks, "rank"), " a host");
  return "";
}

std::string suggest_fix(const RunConfig& config, const ModelSpec& model, int data_parallel_size,
                        const HostMemoryBudget& budget, std::uint64_t free_bytes) {
  const MemoryEstimator bytes_of = [&](const RunConfig& changed) {
    return try_needed_bytes(changed, model, data_parallel_size);
  };
  RunConfig min_config = min_memory_config(config, data_parallel_size);
  min_config.train.sequence = std::min(config.train.sequence, kMinSequence);
  const auto min_bytes = bytes_of(min_config);
  std::string suggestion;
  if (!min_bytes || *min_bytes <= free_bytes) {
    suggestion = suggest_memory_fix(config, bytes_of, free_bytes);
    if (suggestion.empty()) suggestion = suggest_slots(config, bytes_of, free_bytes);
    if (suggestion.empty()) suggestion = suggest_sequence(config, bytes_of, free_bytes);
  }
  if (suggestion.empty()) suggestion = suggest_ranks(config, model, data_parallel_size, budget);
  return suggestion.empty() ? "choose a smaller model (model.preset), or hosts with more memory" : suggestion;
}

}  // namespace

HostMemoryBudget smallest_host_budget(Group& world_group, int local_size) {
  struct RankBudget {
    double bytes_per_rank;
    HostMemoryBudget budget;
  };
  const std::uint64_t free_bytes = available_memory_bytes();
  const RankBudget local{
      free_bytes == 0 ? std::numeric_limits<double>::infinity() : static_cast<double>(free_bytes) / local_size,
      {local_size, free_bytes}};
  std::vector<RankBudget> shares(static_cast<std::size_t>(world_group.size()));
  world_group.all_gather(&local, sizeof local, shares.data());
  RankBudget smallest = shares.front();
  for (const RankBudget& one : shares)
    if (one.bytes_per_rank < smallest.bytes_per_rank) smallest = one;
  return smallest.budget;
}

std::uint64_t host_bytes(const RunConfig& config, const ModelSpec& model, int data_parallel_size) {
  const MemoryPlan memory = plan_rank(config, model, data_parallel_size).memory;
  if (config.on_host) return memory.total();
  return config.parallel.offload ? memory.moments : 0;
}

std::string host_memory_shortfall(const RunConfig& config, const ModelSpec& model, int data_parallel_size,
                                  const HostMemoryBudget& budget) {
  const std::uint64_t needed = host_bytes(config, model, data_parallel_size),
                      free_bytes = budget.free_bytes / static_cast<std::uint64_t>(budget.ranks);
  if (budget.free_bytes == 0 || needed <= free_bytes) return "";
  const std::string ranks_text = budget.ranks > 1
                                     ? join(" for each of its ", budget.ranks, " ranks here, ",
                                            human_bytes(static_cast<double>(needed) * budget.ranks), " together,")
                                     : "";
  return join("this run needs ", bytes_text(needed), " of memory", ranks_text, " and this host has ",
              bytes_text(budget.free_bytes), " free; ",
              suggest_fix(config, model, data_parallel_size, budget, free_bytes));
}

void check_row_count(const RunConfig& config) {
  const std::int64_t rows = std::int64_t{config.train.micro_batch} * config.train.sequence;
  constexpr std::int64_t kMax = std::numeric_limits<int>::max();
  if (rows > kMax)
    throw Error(Fault::kConfig,
                join("train.micro_batch ", config.train.micro_batch, " x train.sequence ", config.train.sequence,
                     " are ", rows, " tokens at once, but at most ", kMax, " are expected; lower one of them"));
}

void check_host_memory(const RunConfig& config, const ModelSpec& model, int data_parallel_size,
                       const HostMemoryBudget& budget) {
  if (const std::string shortfall = host_memory_shortfall(config, model, data_parallel_size, budget);
      !shortfall.empty())
    throw Error(Fault::kDevice, shortfall);
  check_row_count(config);
}

}  // namespace slipway
