#include "src/data/token_counts.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "src/data/workers.hpp"

namespace slipway {
namespace {

using Shards = std::span<const TokenShard* const>;

enum class Extent { kAll, kPairs };

/// Calls `visit(ids, pairs)` for each document in order, where its first `pairs` pairs are to be counted. With kPairs
/// it ends where no more are.
template <class Visit>
void each_document(Shards shards, Extent extent, Visit&& visit) {
  std::int64_t left = TokenCounts::kMostPairs;
  std::vector<int> ids;
  for (const TokenShard* shard : shards)
    for (std::int64_t document = 0; document < shard->info().documents; ++document) {
      if (left == 0 && extent == Extent::kPairs) return;
      const TokenShard::Extent place = shard->extent(document);
      ids.resize(static_cast<std::size_t>(place.tokens));
      shard->copy(place.first, place.tokens, ids.data());
      const std::int64_t pairs = std::min(left, place.tokens - 1);
      left -= pairs;
      visit(ids, static_cast<std::size_t>(pairs));
    }
}

/// By id: how often it is the first of a pair, and how often it stands elsewhere.
struct Places {
  std::vector<std::int64_t> firsts, others;

  Places(Shards shards, std::size_t vocabulary) : firsts(vocabulary), others(vocabulary) {
    each_document(shards, Extent::kAll, [&](const std::vector<int>& ids, std::size_t pairs) {
      for (std::size_t i = 0; i < pairs; ++i) ++firsts[static_cast<std::size_t>(ids[i])];
      for (std::size_t i = pairs; i < ids.size(); ++i) ++others[static_cast<std::size_t>(ids[i])];
    });
  }
};

/// Entropies of what follows each id of [begin, end), times how often it is a first: gathers the seconds of each first
/// (a counting sort), then counts one list after the other in a table that fits the cache.
void sum_pair_entropies(Shards shards, const Places& places, std::size_t begin, std::size_t end, double* nats) {
  const auto first_of = [&](std::size_t id) { return static_cast<std::size_t>(places.firsts[id]); };
  std::vector<std::size_t> next(end - begin + 1);  // by first: where its next second goes; the last place is for others
  for (std::size_t id = begin; id < end; ++id) next[id - begin + 1] = next[id - begin] + first_of(id);
  const auto seconds = std::make_unique_for_overwrite<int[]>(next.back() + 1);
  each_document(shards, Extent::kPairs, [&](const std::vector<int>& ids, std::size_t pairs) {
    for (std::size_t i = 0; i < pairs; ++i) {  // without a branch, as it would be guessed wrong half of the time
      const std::size_t first = static_cast<std::size_t>(ids[i]) - begin;
      const bool is_here = first < end - begin;
      std::size_t& place = next[is_here ? first : end - begin];
      seconds[place] = ids[i + 1];
      place += is_here;
    }
  });

  std::vector<std::int32_t> counts(places.firsts.size());
  const int* second = seconds.get();
  for (std::size_t id = begin; id < end; ++id) {
    const std::span<const int> list(second, first_of(id));
    second += list.size();
    for (const int other : list) ++counts[static_cast<std::size_t>(other)];
    double sum = 0;  // of c log c, over the different seconds as they come
    for (const int other : list) {
      const double count = std::exchange(counts[static_cast<std::size_t>(other)], 0);
      if (count > 1) sum += count * std::log(count);
    }
    const auto total = static_cast<double>(list.size());
    nats[id] = list.empty() ? 0 : total * std::log(total) - sum;
  }
}

/// Ids in `parts` ranges at most, with about as many firsts each: where they begin, and the end.
std::vector<std::size_t> divide(const std::vector<std::int64_t>& firsts, int parts) {
  const std::int64_t share = std::accumulate(firsts.begin(), firsts.end(), std::int64_t{0}) / parts + 1;
  std::vector<std::size_t> begins = {0};
  std::int64_t in_range = 0;
  for (std::size_t id = 0; id < firsts.size(); ++id) {
    if (in_range >= share) begins.push_back(id), in_range = 0;
    in_range += firsts[id];
  }
  begins.push_back(firsts.size());
  return begins;
}

}  // namespace

TokenCounts count_tokens(Shards shards, int threads) {
  TokenCounts counts;
  std::size_t vocabulary = 0;
  std::int64_t tokens = 0;
  for (const TokenShard* shard : shards) {
    vocabulary = std::max(vocabulary, static_cast<std::size_t>(shard->info().vocabulary));
    tokens += shard->info().tokens;
  }
  const Places places(shards, vocabulary);
  for (std::size_t id = 0; id < vocabulary; ++id) {
    const std::int64_t count = places.firsts[id] + places.others[id];
    if (count == 0) continue;
    ++counts.unique;
    counts.pairs += places.firsts[id];
    counts.entropy_nats +=
        static_cast<double>(count) * std::log(static_cast<double>(tokens) / static_cast<double>(count));
  }
  if (tokens > 0) counts.entropy_nats /= static_cast<double>(tokens);

  std::vector<double> nats(vocabulary);  // by first, so that their sum has one order
  std::vector<std::function<void()>> jobs;
  const std::vector<std::size_t> begins = divide(places.firsts, threads);
  for (std::size_t part = 0; part + 1 < begins.size(); ++part)
    jobs.emplace_back([&, part] { sum_pair_entropies(shards, places, begins[part], begins[part + 1], nats.data()); });
  run_jobs(jobs, threads);
  if (counts.pairs > 0)
    counts.pair_entropy_nats = std::accumulate(nats.begin(), nats.end(), 0.0) / static_cast<double>(counts.pairs);
  return counts;
}

}  // namespace slipway
