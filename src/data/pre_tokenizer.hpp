// Splits text into pre-tokens, inside which merges happen: llama.cpp's patterns, as state machines over code points.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string_view>

#include "src/data/tokenizer.hpp"

namespace slipway {

/// Writes to `ends` the ends of the pre-tokens that start in [begin, end), until `ends` is full or there are no more.
/// `begin` is the start of a pre-token. The end of a pre-token depends only on the text from its start to at most one
/// code point after its end, so splitting may begin at the start of any pre-token.
/// Returns  the number of ends written.
using SplitFn = std::size_t (*)(std::string_view text, std::size_t begin, std::size_t end, std::span<std::size_t> ends);
SplitFn split_function(PreTokenizer pre);

inline constexpr std::size_t kPreTokensPerBatch = 64;  ///< amortizes the call and the memory latency

/// Calls `visit(begin, ends)` for some pre-tokens after the others, all that start in [begin, end): the first of them
/// starts at `begin`, and each ends at one of `ends`.
template <class Visit>
void for_each_pre_token_batch(PreTokenizer pre, std::string_view text, std::size_t begin, std::size_t end,
                              Visit&& visit) {
  const SplitFn split = split_function(pre);
  std::array<std::size_t, kPreTokensPerBatch> ends;
  while (begin < end) {
    const std::span<const std::size_t> batch_ends(ends.data(), split(text, begin, end, ends));
    visit(begin, batch_ends);
    begin = batch_ends.back();
  }
}

/// Calls `visit(pre_token)` for each pre-token that starts in [begin, end); `begin` must be where a pre-token starts.
template <class Visit>
void for_each_pre_token(PreTokenizer pre, std::string_view text, std::size_t begin, std::size_t end, Visit&& visit) {
  for_each_pre_token_batch(pre, text, begin, end, [&](std::size_t at, std::span<const std::size_t> ends) {
    for (const std::size_t pre_token_end : ends) {
      visit(std::string_view(text.data() + at, pre_token_end - at));
      at = pre_token_end;
    }
  });
}

/// The first position at or after `at` where a pre-token starts regardless of the text before it: an ASCII letter after
/// a line feed. In no pattern does a pre-token cross it. `text.size()` when there is none.
std::size_t safe_boundary(std::string_view text, std::size_t at);

/// The pattern as written in Hugging Face's tokenizer.json. smollm's is GPT-2's, after a step that isolates digits.
std::string_view pattern_of(PreTokenizer pre);

}  // namespace slipway
