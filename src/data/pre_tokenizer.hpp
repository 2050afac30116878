// Cutting text into the pieces inside which merges happen: llama.cpp's splits, as state machines over code points.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string_view>

#include "src/data/tokenizer.hpp"

namespace slipway {

/// Writes to `ends` where the pieces end that start in [begin, end): until `ends` is full, or all are cut. `begin` is
/// where a piece starts. Where one ends depends on the text from its start on, one code point of it beyond the piece at
/// most, and on nothing before: pieces can be cut from any piece's start.
/// Returns  how many ends were written.
using CutPieces = std::size_t (*)(std::string_view text, std::size_t begin, std::size_t end,
                                  std::span<std::size_t> ends);
CutPieces cutter_of(PreTokenizer pre);

/// Calls `visit(piece)` for each piece that starts in [begin, end); `begin` must be where a piece starts.
template <class Visit>
void for_each_piece(PreTokenizer pre, std::string_view text, std::size_t begin, std::size_t end, Visit&& visit) {
  const CutPieces cut = cutter_of(pre);
  std::array<std::size_t, 64> ends;  // at once, so that the call costs nothing beside its pieces
  while (begin < end) {
    const std::size_t count = cut(text, begin, end, ends);
    for (std::size_t i = 0; i < count; begin = ends[i++]) visit(std::string_view(text.data() + begin, ends[i] - begin));
  }
}

/// The first place at or after `at` where a piece starts whatever stands before it: an ASCII letter after a line
/// feed. No pattern lets a piece reach across that. `text.size()` when there is none.
std::size_t safe_cut(std::string_view text, std::size_t at);

/// The pattern as Hugging Face's tokenizer.json writes it.
std::string_view pattern_of(PreTokenizer pre);

}  // namespace slipway
