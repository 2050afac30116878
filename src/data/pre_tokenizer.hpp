// Cutting text into the pieces inside which merges happen: llama.cpp's splits, as state machines over code points.
#pragma once

#include <cstddef>
#include <string_view>

#include "src/data/tokenizer.hpp"

namespace slipway {

/// The end of the piece that starts at byte `at < text.size()`. Where a piece ends depends on the text from its start
/// on, one code point of it beyond the piece at most, and on nothing before: pieces can be cut from any piece's start.
using PieceEnd = std::size_t (*)(std::string_view text, std::size_t at);
PieceEnd piece_end_of(PreTokenizer pre);

/// Calls `visit(piece)` for each piece that starts in [begin, end); `begin` must be where a piece starts.
template <class Visit>
void for_each_piece(PreTokenizer pre, std::string_view text, std::size_t begin, std::size_t end, Visit&& visit) {
  const PieceEnd piece_end = piece_end_of(pre);
  for (std::size_t at = begin; at < end;) {
    const std::size_t next = piece_end(text, at);
    visit(text.substr(at, next - at));
    at = next;
  }
}

/// The first place at or after `at` where a piece starts whatever stands before it: an ASCII letter after a line
/// feed. No pattern lets a piece reach across that. `text.size()` when there is none.
std::size_t safe_cut(std::string_view text, std::size_t at);

/// The pattern as Hugging Face's tokenizer.json writes it.
std::string_view pattern_of(PreTokenizer pre);

}  // namespace slipway
