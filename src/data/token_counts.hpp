// Unigram and bigram entropies of the tokens in shards.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "io/data/token_shard.hpp"

namespace slipway {

/// Counts and entropies of a split. A pair is two adjacent tokens of one document.
struct TokenCounts {
  std::int64_t unique = 0;         ///< ids that occur at all
  std::int64_t pairs = 0;          ///< counted: all, or the first kMaxPairs
  double entropy_nats = 0;         ///< of a token
  double bigram_entropy_nats = 0;  ///< conditional: of a token, given the one before it

  static constexpr std::int64_t kMaxPairs = 1 << 24;  ///< their list stays at 64 MiB
};

/// How often each id is the context (the first token) of a counted pair, and how often it occurs otherwise. The shards
/// have passed verify().
struct ContextCounts {
  ContextCounts() = default;
  explicit ContextCounts(std::span<const TokenShard* const> shards);

  std::vector<std::int64_t> as_context, otherwise;
};

/// Reads the shards once more, in `threads` threads, whose number does not change the result.
TokenCounts count_tokens(std::span<const TokenShard* const> shards, const ContextCounts& contexts, int threads);

}  // namespace slipway
