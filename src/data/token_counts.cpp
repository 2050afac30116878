#include "src/data/token_counts.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "src/core/workers.hpp"

namespace slipway {
namespace {

using Shards = std::span<const TokenShard* const>;

enum class Visited { kAll, kPairs };

/// Calls `visit(ids, pairs)` for each document in order. `ids` is a span of 16-bit or 32-bit ids, as they are stored;
/// only the first `pairs` pairs count, since kMaxPairs limits their total. With kPairs, stops at that limit.
template <class Visit>
void for_each_document(Shards shards, Visited visited, Visit&& visit) {
  std::int64_t pairs_left = TokenCounts::kMaxPairs;
  for (const TokenShard* shard : shards)
    for (std::int64_t document = 0; document < shard->info().documents; ++document) {
      if (pairs_left == 0 && visited == Visited::kPairs) return;
      const TokenShard::Extent extent = shard->extent(document);
      const std::int64_t pairs = std::min(pairs_left, extent.tokens - 1);
      pairs_left -= pairs;
      const std::byte* bytes = shard->raw(extent.first, extent.tokens).data();  // aligned, as the shard is
      const auto visit_as = [&]<class Id>(const Id* ids) {
        visit(std::span(ids, static_cast<std::size_t>(extent.tokens)), static_cast<std::size_t>(pairs));
      };
      if (shard->info().token_bytes() == 2) visit_as(reinterpret_cast<const std::uint16_t*>(bytes));
      else visit_as(reinterpret_cast<const std::uint32_t*>(bytes));
    }
}

/// For each id in [begin, end), writes count(id) * H(next token | id) to nats[id]. A counting sort groups the next
/// tokens by their context; then each group is counted in a table that fits the cache. `Id` holds every id.
template <class Id>
void sum_bigram_entropies(Shards shards, const ContextCounts& contexts, std::size_t begin, std::size_t end,
                          double* entropies) {
  const auto context_count = [&](std::size_t id) { return static_cast<std::size_t>(contexts.as_context[id]); };
  std::vector<std::size_t> next(end - begin +
                                1);  // by context: where its next token goes; the last slot takes other contexts
  for (std::size_t id = begin; id < end; ++id) next[id - begin + 1] = next[id - begin] + context_count(id);
  const auto next_tokens = std::make_unique_for_overwrite<Id[]>(next.back() + 1);
  for_each_document(shards, Visited::kPairs, [&](auto ids, std::size_t pairs) {
    for (std::size_t i = 0; i < pairs; ++i) {  // branch-free: a branch would be mispredicted half of the time
      const std::size_t first = ids[i] - begin;
      const bool in_range = first < end - begin;
      std::size_t& slot = next[in_range ? first : end - begin];
      next_tokens[slot] = static_cast<Id>(ids[i + 1]);
      slot += in_range;
    }
  });

  std::vector<std::int32_t> counts(contexts.as_context.size());
  const Id* second = next_tokens.get();
  for (std::size_t id = begin; id < end; ++id) {
    const std::span<const Id> group(second, context_count(id));
    second += group.size();
    for (const Id token : group) ++counts[token];
    double sum = 0;  // of c log c, over the different seconds as they come
    for (const Id token : group) {
      const double count = std::exchange(counts[token], 0);
      if (count > 1) sum += count * std::log(count);
    }
    const auto total = static_cast<double>(group.size());
    entropies[id] = group.empty() ? 0 : total * std::log(total) - sum;
  }
}

/// The bounds of at most `parts` ranges of ids with about equal numbers of pairs.
std::vector<std::size_t> split_ranges(const std::vector<std::int64_t>& context_counts, int parts) {
  const std::int64_t pairs_per_part =
      std::accumulate(context_counts.begin(), context_counts.end(), std::int64_t{0}) / parts + 1;
  std::vector<std::size_t> begins = {0};
  std::int64_t pairs_in_range = 0;
  for (std::size_t id = 0; id < context_counts.size(); ++id) {
    if (pairs_in_range >= pairs_per_part) begins.push_back(id), pairs_in_range = 0;
    pairs_in_range += context_counts[id];
  }
  begins.push_back(context_counts.size());
  return begins;
}

}  // namespace

ContextCounts::ContextCounts(Shards shards) {
  int vocabulary = 0;
  for (const TokenShard* shard : shards) vocabulary = std::max(vocabulary, shard->info().vocabulary);
  as_context.resize(static_cast<std::size_t>(vocabulary));
  otherwise.resize(static_cast<std::size_t>(vocabulary));
  for_each_document(shards, Visited::kAll, [&](auto ids, std::size_t pairs) {
    for (std::size_t i = 0; i < pairs; ++i) ++as_context[ids[i]];
    for (std::size_t i = pairs; i < ids.size(); ++i) ++otherwise[ids[i]];
  });
}

TokenCounts count_tokens(Shards shards, const ContextCounts& contexts, int threads) {
  TokenCounts counts;
  const std::size_t vocabulary = contexts.as_context.size();
  std::int64_t tokens = 0;
  for (const TokenShard* shard : shards) tokens += shard->info().tokens;
  for (std::size_t id = 0; id < vocabulary; ++id) {
    const std::int64_t count = contexts.as_context[id] + contexts.otherwise[id];
    if (count == 0) continue;
    ++counts.unique;
    counts.pairs += contexts.as_context[id];
    counts.entropy_nats +=
        static_cast<double>(count) * std::log(static_cast<double>(tokens) / static_cast<double>(count));
  }
  if (tokens > 0) counts.entropy_nats /= static_cast<double>(tokens);

  std::vector<double> entropies(vocabulary);  // by first, so that their sum has one order
  std::vector<std::function<void()>> jobs;
  const std::vector<std::size_t> begins = split_ranges(contexts.as_context, threads);
  for (std::size_t part = 0; part + 1 < begins.size(); ++part)
    jobs.emplace_back([&, part] {
      const bool fits_u16 = vocabulary <= std::size_t{1} << 16;
      const auto sum = fits_u16 ? sum_bigram_entropies<std::uint16_t> : sum_bigram_entropies<std::uint32_t>;
      sum(shards, contexts, begins[part], begins[part + 1], entropies.data());
    });
  run_jobs(jobs, threads);
  if (counts.pairs > 0)
    counts.bigram_entropy_nats =
        std::accumulate(entropies.begin(), entropies.end(), 0.0) / static_cast<double>(counts.pairs);
  return counts;
}

}  // namespace slipway
