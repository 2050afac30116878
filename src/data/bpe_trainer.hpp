// Learning byte-pair merges from counted pre-tokens of text.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "src/data/bpe.hpp"
#include "src/data/tokenizer.hpp"

namespace slipway {

/// A distinct pre-token of text and how often it was seen.
struct CountedPreToken {
  std::string_view bytes;
  std::int64_t count = 0;
};

/// The distinct pre-tokens of all texts, in no particular order. They point into `texts`.
/// Cost     one pass over the texts, divided over `threads`; a long text is split where a pre-token certainly starts.
std::vector<CountedPreToken> count_pre_tokens(PreTokenizer pre, std::span<const std::string_view> texts, int threads);

struct BpeTraining {
  int tokens = 0;                  ///< distinct tokens wanted, the 256 bytes included
  std::int64_t min_frequency = 2;  ///< a pair seen fewer times is never merged
};

/// Learns merges until there are `tokens` tokens or no pair is frequent enough. Ids: a byte's is its rank in the byte
/// alphabet, a merge that makes a new token takes the next one. The most frequent pair merges first; among equally
/// frequent ones that with the smallest left id, then the smallest right id (the rule of Hugging Face's trainer).
/// Cost     O(total length of the pre-tokens that contain merged pairs); counts are updated incrementally.
std::vector<Merge> learn_merges(const BpeTraining& training, std::span<const CountedPreToken> pre_tokens);

}  // namespace slipway
