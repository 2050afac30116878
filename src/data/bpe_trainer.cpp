#include "src/data/bpe_trainer.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <queue>
#include <string>
#include <thread>
#include <unordered_map>

#include "src/core/error.hpp"
#include "src/core/log.hpp"
#include "src/data/pre_tokenizer.hpp"
#include "src/data/unicode.hpp"

namespace slipway {
namespace {

constexpr std::size_t kRangeBytes = 1 << 20;  // small enough for balanced threads

/// Counts of distinct pre-tokens: open addressing, since most pre-tokens are short and most lookups hit.
class PreTokenCounter {
 public:
  PreTokenCounter() : slots_(1 << 12) {}

  void add(std::string_view bytes, std::int64_t count) {
    const std::size_t hash = std::hash<std::string_view>()(bytes);
    Slot& slot = slots_[find_slot(bytes, hash)];
    slot.pre_token.count += count;
    if (slot.pre_token.bytes.data() != nullptr) return;
    slot.pre_token.bytes = bytes;
    slot.hash = hash;
    if (2 * ++size_ > slots_.size()) grow();
  }

  template <class Visit>
  void for_each(Visit&& visit) const {
    for (const Slot& slot : slots_)
      if (slot.pre_token.bytes.data() != nullptr) visit(slot.pre_token);
  }
  std::size_t size() const { return size_; }

 private:
  struct Slot {
    CountedPreToken pre_token;
    std::size_t hash = 0;
  };

  std::size_t find_slot(std::string_view bytes, std::size_t hash) const {
    std::size_t at = hash & (slots_.size() - 1);
    while (slots_[at].pre_token.bytes.data() != nullptr &&
           (slots_[at].hash != hash || slots_[at].pre_token.bytes != bytes))
      at = (at + 1) & (slots_.size() - 1);
    return at;
  }

  void grow() {
    std::vector<Slot> old(2 * slots_.size());
    old.swap(slots_);
    for (const Slot& slot : old)
      if (slot.pre_token.bytes.data() != nullptr) slots_[find_slot(slot.pre_token.bytes, slot.hash)] = slot;
  }

  std::vector<Slot> slots_;
  std::size_t size_ = 0;
};

/// A part of a text that starts and ends at pre-token boundaries.
struct TextRange {
  std::string_view text;
  std::size_t begin, end;
};

std::vector<TextRange> split_into_ranges(std::span<const std::string_view> texts) {
  std::vector<TextRange> ranges;
  for (const std::string_view text : texts)
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end =
          text.size() - begin <= kRangeBytes ? text.size() : safe_boundary(text, begin + kRangeBytes);
      ranges.push_back({text, begin, end});
      begin = end;
    }
  return ranges;
}

/// The pre-tokens as ids, the counts of their pairs, and the pre-tokens in which each pair occurs.
class Trainer {
 public:
  Trainer(const BpeTraining& training, std::span<const CountedPreToken> pre_tokens)
      : training_(training), tokens_(256) {
    std::array<int, 256> id_of_byte{};
    for (int id = 0; id < 256; ++id) {
      id_of_byte[alphabet_byte(id)] = id;
      tokens_[static_cast<std::size_t>(id)] = std::string(1, static_cast<char>(alphabet_byte(id)));
      id_of_token_[tokens_[static_cast<std::size_t>(id)]] = id;
    }
    std::size_t bytes = 0;
    for (const CountedPreToken& pre_token : pre_tokens) bytes += pre_token.bytes.size();
    ids_.reserve(bytes);
    words_.reserve(pre_tokens.size());
    for (const CountedPreToken& pre_token : pre_tokens) {
      if (pre_token.bytes.size() < 2) continue;  // nothing to merge
      words_.push_back({ids_.size(), pre_token.bytes.size(), pre_token.count});
      for (const char byte : pre_token.bytes) ids_.push_back(id_of_byte[static_cast<std::uint8_t>(byte)]);
    }
    for (std::size_t word = 0; word < words_.size(); ++word)
      for (std::size_t i = words_[word].begin; i + 1 < words_[word].begin + words_[word].length; ++i)
        increment_pair(ids_[i], ids_[i + 1], word);
    queue_changed_pairs();
  }

  std::vector<Merge> run() {
    log::Progress progress("tokenizer: merging");
    const std::size_t start = tokens_.size(), target = static_cast<std::size_t>(training_.tokens);
    std::vector<Merge> merges;
    while (tokens_.size() < target && !queue_.empty()) {
      const Entry top = queue_.top();
      queue_.pop();
      const std::int64_t count = pairs_[top.pair].count;
      if (count != top.count) {  // its count has dropped since it was queued
        if (count > 0) queue_.push({count, top.left, top.right, top.pair});
        continue;
      }
      if (count < training_.min_frequency) break;
      merges.push_back({top.left, top.right, merged_token_id(top.left, top.right)});
      apply_merge(merges.back(), top.pair);
      if (merges.size() % 256 == 0)
        progress(static_cast<double>(tokens_.size() - start), static_cast<double>(target - start));
    }
    return merges;
  }

 private:
  struct Word {
    std::size_t begin, length;
    std::int64_t count;
  };
  struct Pair {
    int left, right;
    std::int64_t count = 0;
    bool changed = false;              // its count has increased since queue_touched()
    std::vector<std::uint32_t> words;  // in which it occurs, or occurred
  };
  struct Entry {
    std::int64_t count;
    int left, right;
    std::size_t pair;
    bool operator<(const Entry& other) const {  // later in the queue
      if (count != other.count) return count < other.count;
      return left != other.left ? left > other.left : right > other.right;
    }
  };

  void increment_pair(int left, int right, std::size_t word) {
    const auto at = static_cast<std::size_t>(index_.find_or_insert(left, right, static_cast<int>(pairs_.size())));
    if (at == pairs_.size()) pairs_.push_back({left, right});
    Pair& pair = pairs_[at];
    pair.count += words_[word].count;
    if (pair.words.empty() || pair.words.back() != word) pair.words.push_back(static_cast<std::uint32_t>(word));
    if (!pair.changed) changed_pairs_.push_back(at);
    pair.changed = true;
  }

  void decrement_pair(int left, int right, std::size_t word) {
    pairs_[static_cast<std::size_t>(index_.find(left, right))].count -= words_[word].count;
  }

  void queue_changed_pairs() {
    for (const std::size_t at : changed_pairs_) {
      queue_.push({pairs_[at].count, pairs_[at].left, pairs_[at].right, at});
      pairs_[at].changed = false;
    }
    changed_pairs_.clear();
  }

  /// The id of the joined token: a new one, or the old one when other parts have made it before.
  int merged_token_id(int left, int right) {
    std::string joined = tokens_[static_cast<std::size_t>(left)] + tokens_[static_cast<std::size_t>(right)];
    const auto [found, added] = id_of_token_.try_emplace(joined, static_cast<int>(tokens_.size()));
    if (added) tokens_.push_back(std::move(joined));
    return found->second;
  }

  void apply_merge(const Merge& merge, std::size_t at) {
    const std::vector<std::uint32_t> words = std::move(pairs_[at].words);
    for (const std::size_t word : words) apply_to_word(merge, word);
    pairs_[at].count = 0;  // overlapping occurrences (aaa) were counted, not all of them merged
    pairs_[at].words.clear();
    queue_changed_pairs();
  }

  void apply_to_word(const Merge& merge, std::size_t word) {
    int* ids = ids_.data() + words_[word].begin;
    const std::size_t length = words_[word].length;
    std::size_t out = 0;
    for (std::size_t i = 0; i < length; ++i, ++out) {
      if (i + 1 == length || ids[i] != merge.left || ids[i + 1] != merge.right) {
        ids[out] = ids[i];
        continue;
      }
      if (out > 0) {
        decrement_pair(ids[out - 1], merge.left, word);
        increment_pair(ids[out - 1], merge.result, word);
      }
      if (i + 2 < length) {
        decrement_pair(merge.right, ids[i + 2], word);
        increment_pair(merge.result, ids[i + 2], word);
      }
      ids[out] = merge.result;
      ++i;
    }
    words_[word].length = out;
  }

  BpeTraining training_;
  std::vector<std::string> tokens_;
  std::unordered_map<std::string, int> id_of_token_;
  std::vector<int> ids_;  // of all words, one after another
  std::vector<Word> words_;
  PairTable index_;  // pair of ids -> position in pairs_
  std::vector<Pair> pairs_;
  std::vector<std::size_t> changed_pairs_;
  std::priority_queue<Entry> queue_;
};

}  // namespace

std::vector<CountedPreToken> count_pre_tokens(PreTokenizer pre, std::span<const std::string_view> texts, int threads) {
  const std::vector<TextRange> ranges = split_into_ranges(texts);
  std::vector<PreTokenCounter> counters(static_cast<std::size_t>(std::max(1, threads)));
  std::vector<std::exception_ptr> faults(counters.size());
  std::atomic<std::size_t> next_range = 0;
  log::Progress progress("tokenizer: counting");
  const auto work = [&](std::size_t thread) {
    try {
      for (std::size_t range = next_range++; range < ranges.size(); range = next_range++) {
        for_each_pre_token(pre, ranges[range].text, ranges[range].begin, ranges[range].end,
                           [&](std::string_view pre_token) { counters[thread].add(pre_token, 1); });
        if (thread == 0) progress(static_cast<double>(range), static_cast<double>(ranges.size()));
      }
    } catch (...) {
      faults[thread] = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> workers;
    for (std::size_t thread = 1; thread < counters.size(); ++thread) workers.emplace_back(work, thread);
    work(0);
  }
  for (const std::exception_ptr& fault : faults)
    if (fault) std::rethrow_exception(fault);

  for (std::size_t thread = 1; thread < counters.size(); ++thread)
    counters[thread].for_each(
        [&](const CountedPreToken& pre_token) { counters[0].add(pre_token.bytes, pre_token.count); });
  std::vector<CountedPreToken> pre_tokens;
  pre_tokens.reserve(counters[0].size());
  counters[0].for_each([&](const CountedPreToken& pre_token) { pre_tokens.push_back(pre_token); });
  return pre_tokens;
}

std::vector<Merge> learn_merges(const BpeTraining& training, std::span<const CountedPreToken> pre_tokens) {
  return Trainer(training, pre_tokens).run();
}

}  // namespace slipway
