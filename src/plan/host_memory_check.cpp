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

std::string bytes_in_words(std::uint64_t bytes) { return human_bytes(static_cast<double>(bytes)); }

/// The bytes that the run would take; nothing where the ranks cannot share its micro-batches.
std::optional<std::uint64_t> wanted_bytes(const RunConfig& config, const ModelSpec& model, int data_ranks) {
  try {
    return host_bytes(config, model, data_ranks);
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::string fewer_slots_that_fit(const RunConfig& config, const MemoryEstimator& bytes_of, std::uint64_t free) {
  RunConfig changed = config;
  for (int slots = config.numerics.slots / 2; slots >= 1; slots /= 2) {
    changed.numerics.slots = slots;
    const auto bytes = bytes_of(changed);
    if (bytes && *bytes <= free) return join("numerics.slots = ", slots, " would take ", bytes_in_words(*bytes));
  }
  return "";
}

std::string sequence_that_fits(const RunConfig& config, const MemoryEstimator& bytes_of, std::uint64_t free) {
  RunConfig changed = config;
  const auto longest = static_cast<int>(std::bit_floor(static_cast<unsigned>(config.train.sequence - 1)));
  for (int sequence = longest; sequence >= kMinSequence; sequence /= 2) {
    changed.train.sequence = sequence;
    const auto bytes = bytes_of(changed);
    if (bytes && *bytes <= free) return join("train.sequence = ", sequence, " would take ", bytes_in_words(*bytes));
  }
  return "";
}

std::string fewer_ranks_that_fit(const RunConfig& config, const ModelSpec& model, int data_ranks,
                                 const HostMemoryBudget& share) {
  const auto bytes = wanted_bytes(config, model, data_ranks);  // of a layout with as many ranks on more hosts
  for (int ranks = share.ranks / 2; ranks >= 1; ranks /= 2)
    if (bytes && *bytes <= share.free_bytes / static_cast<std::uint64_t>(ranks))
      return join("start ", pluralize(ranks, "rank"), " a host");
  return "";
}

std::string change_that_fits(const RunConfig& config, const ModelSpec& model, int data_ranks,
                             const HostMemoryBudget& share, std::uint64_t free) {
  const MemoryEstimator bytes_of = [&](const RunConfig& changed) { return wanted_bytes(changed, model, data_ranks); };
  RunConfig smallest = smallest_run(config, data_ranks);
  smallest.train.sequence = std::min(config.train.sequence, kMinSequence);
  const auto least = bytes_of(smallest);
  std::string change;
  if (!least || *least <= free) {
    change = micro_batch_that_fits(config, bytes_of, free);
    if (change.empty()) change = fewer_slots_that_fit(config, bytes_of, free);
    if (change.empty()) change = sequence_that_fits(config, bytes_of, free);
  }
  if (change.empty()) change = fewer_ranks_that_fit(config, model, data_ranks, share);
  return change.empty() ? "choose a smaller model (model.preset), or hosts with more memory" : change;
}

}  // namespace

HostMemoryBudget smallest_host_budget(Group& all, int local_size) {
  struct Mine {
    double share;
    HostMemoryBudget host;
  };
  const std::uint64_t free = available_memory_bytes();
  const Mine mine{free == 0 ? std::numeric_limits<double>::infinity() : static_cast<double>(free) / local_size,
                  {local_size, free}};
  std::vector<Mine> each(static_cast<std::size_t>(all.size()));
  all.all_gather(&mine, sizeof mine, each.data());
  Mine least = each.front();
  for (const Mine& one : each)
    if (one.share < least.share) least = one;
  return least.host;
}

std::uint64_t host_bytes(const RunConfig& config, const ModelSpec& model, int data_ranks) {
  const MemoryPlan memory = plan_rank(config, model, data_ranks).memory;
  if (config.on_host) return memory.total();
  return config.parallel.offload ? memory.moments : 0;
}

std::string host_memory_shortfall(const RunConfig& config, const ModelSpec& model, int data_ranks,
                                  const HostMemoryBudget& share) {
  const std::uint64_t needed = host_bytes(config, model, data_ranks),
                      free = share.free_bytes / static_cast<std::uint64_t>(share.ranks);
  if (share.free_bytes == 0 || needed <= free) return "";
  const std::string of_all = share.ranks > 1
                                 ? join(" for each of its ", share.ranks, " ranks here, ",
                                        human_bytes(static_cast<double>(needed) * share.ranks), " together,")
                                 : "";
  return join("this run needs ", bytes_in_words(needed), " of memory", of_all, " and this host has ",
              bytes_in_words(share.free_bytes), " free; ", change_that_fits(config, model, data_ranks, share, free));
}

void check_row_count(const RunConfig& config) {
  const std::int64_t rows = std::int64_t{config.train.micro_batch} * config.train.sequence;
  constexpr std::int64_t kMax = std::numeric_limits<int>::max();
  if (rows > kMax)
    throw Error(Fault::kConfig,
                join("train.micro_batch ", config.train.micro_batch, " x train.sequence ", config.train.sequence,
                     " are ", rows, " tokens at once, but at most ", kMax, " are expected; lower one of them"));
}

void check_host_memory(const RunConfig& config, const ModelSpec& model, int data_ranks, const HostMemoryBudget& share) {
  if (const std::string why = host_memory_shortfall(config, model, data_ranks, share); !why.empty())
    throw Error(Fault::kDevice, why);
  check_row_count(config);
}

}  // namespace slipway
