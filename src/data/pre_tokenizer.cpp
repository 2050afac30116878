#include "src/data/pre_tokenizer.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>

#include "src/core/error.hpp"
#include "src/data/ascii_block.hpp"
#include "src/data/unicode.hpp"

namespace slipway {
namespace {

constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlamaPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwenPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kCharPattern = R"([\s\S])";

bool is_newline(const Symbol& symbol) { return symbol.code == '\r' || symbol.code == '\n'; }

std::size_t skip_class(std::string_view text, std::size_t at, CharClass kind) {
  if (kind == CharClass::kLetter)  // letters make the longest runs: ASCII ones are scanned eight at a time
    while (at + sizeof(std::uint64_t) <= text.size()) {
      const std::uint64_t bytes = ascii::load(text.data() + at);
      const std::uint64_t others = ascii::kHighBits & (~ascii::letters(bytes & ~ascii::kHighBits) | bytes);
      at += static_cast<std::size_t>(std::countr_zero(others)) / 8;
      if (others != 0) break;
    }
  for (Symbol symbol = symbol_at(text, at); symbol.kind == kind; symbol = symbol_at(text, at)) at += symbol.bytes;
  return at;
}

/// 's|'t|'re|'ve|'m|'ll|'d at the apostrophe at `at`: its end, or `at` when there is none. Upper case is ASCII's
/// only: llama.cpp does not fold U+017F to s.
std::size_t contraction_end(std::string_view text, std::size_t at, bool ignore_case) {
  const auto letter = [&](std::size_t i) {
    const char c = i < text.size() ? text[i] : '\0';
    return ignore_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
  };
  const char first = letter(at + 1), second = letter(at + 2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
  if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l'))
    return at + 3;
  return at;
}

/// \s+(?!\S)|\s+ : a run of spaces leaves its last one to what follows, unless it is alone or ends the text, or, with
/// `kSplitDigits`, what stands before a number.
template <bool kSplitDigits = false>
std::size_t spaces_end(std::string_view text, std::size_t at) {
  std::size_t end = at, last = at;
  for (Symbol symbol = symbol_at(text, at); symbol.kind == CharClass::kSpace; symbol = symbol_at(text, end)) {
    last = end;
    end += symbol.bytes;
  }
  const bool at_end = end == text.size() || (kSplitDigits && symbol_at(text, end).kind == CharClass::kNumber);
  return last == at || at_end ? end : last;
}

/// GPT-2's pattern. With `kSplitDigits` (smollm) each number is a pre-token of its own, and what lies between numbers
/// is cut as if it were a text of its own.
template <bool kSplitDigits>
std::size_t gpt2_pre_token_end(std::string_view text, std::size_t at) {
  const Symbol first = symbol_at(text, at);
  if (kSplitDigits && first.kind == CharClass::kNumber) return at + first.bytes;
  if (first.code == '\'')
    if (const std::size_t end = contraction_end(text, at, /*any_case=*/false); end > at) return end;

  //  ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+
  const std::size_t body = at + (first.code == ' ');
  const CharClass kind = symbol_at(text, body).kind;
  const bool has_body =
      kind == CharClass::kLetter || kind == CharClass::kOther || (kind == CharClass::kNumber && !kSplitDigits);
  return has_body ? skip_class(text, body, kind) : spaces_end<kSplitDigits>(text, at);
}

/// Where pre-tokens begin among the 64 bytes from `at`, a pre-token's start, on: bit i for byte at + i, as far as those
/// bytes decide; never bit 0.
template <bool kSplitDigits>
std::uint64_t gpt2_starts(std::string_view text, std::size_t at) {
  const ascii::Block block(text.data() + at);
  const std::uint64_t others = ~(block.letters | block.numbers | block.spaces);
  const auto run_starts = [](std::uint64_t kind) { return kind & ~(kind << 1); };
  // A class begins anew, but for a blank before it, which it takes in; a run of spaces leaves its last one. Numbers
  // that stand apart begin one by one, take no blank in, and end a run of spaces as the text's end does.
  const std::uint64_t isolated = kSplitDigits ? block.numbers : 0, grouped = kSplitDigits ? 0 : block.numbers;
  std::uint64_t starts =
      ((run_starts(block.letters) | run_starts(grouped) | run_starts(others)) & ~(block.blanks << 1)) | isolated |
      (block.spaces & (~(block.spaces << 1) | ~((block.spaces | isolated) >> 1))) | 1;
  for (std::uint64_t remaining = block.apostrophes & starts; remaining != 0; remaining &= remaining - 1) {
    const int first = std::countr_zero(remaining);
    const std::size_t bytes = contraction_end(text, at + first, /*any_case=*/false) - (at + first);
    if (bytes == 0) continue;
    starts &= ~(std::uint64_t{0b10} << first);
    if (first + bytes < ascii::Block::kBytes) starts |= std::uint64_t{1} << (first + bytes);
  }
  // A start is sure when its own byte and the next are ASCII and in the block.
  const int decided_bits = std::min(std::countr_zero(block.non_ascii), 64) - 1;
  return decided_bits <= 0 ? 0 : starts & ((std::uint64_t{1} << decided_bits) - 1) & ~std::uint64_t{1};
}

/// Finds the ends of many pre-tokens at once in ASCII text: which of 64 characters begin a pre-token follows from their
/// classes and their neighbours' classes. Everything else (other text, its last 64 bytes, long pre-tokens) is split one
/// pre-token at a time.
template <bool kSplitDigits>
std::size_t split_gpt2(std::string_view text, std::size_t begin, std::size_t end, std::span<std::size_t> ends) {
  std::size_t count = 0, scalar_until = begin;  // before slow_to, blocks are known to give no result
  for (std::size_t at = begin; at < end && count < ends.size();) {
    const bool use_block = at >= scalar_until && at + ascii::Block::kBytes <= text.size();
    std::uint64_t starts = use_block ? gpt2_starts<kSplitDigits>(text, at) : 0;
    if (starts == 0) {
      if (use_block) scalar_until = at + ascii::Block::kBytes;
      ends[count++] = at = gpt2_pre_token_end<kSplitDigits>(text, at);
    }
    for (const std::size_t block = at; starts != 0 && at < end && count < ends.size(); starts &= starts - 1)
      ends[count++] = at = block + static_cast<std::size_t>(std::countr_zero(starts));
  }
  return count;
}

/// The pattern of Llama-3 and Qwen2, which differ in how many digits make a pre-token.
template <int kDigits>
std::size_t llama_pre_token_end(std::string_view text, std::size_t at) {
  const Symbol first = symbol_at(text, at);
  if (first.code == '\'')
    if (const std::size_t end = contraction_end(text, at, /*any_case=*/true); end > at) return end;

  // [^\r\n\p{L}\p{N}]?\p{L}+
  if (first.kind == CharClass::kLetter) return skip_class(text, at, CharClass::kLetter);
  const Symbol second = symbol_at(text, at + first.bytes);
  if (second.kind == CharClass::kLetter && first.kind != CharClass::kNumber && !is_newline(first))
    return skip_class(text, at + first.bytes, CharClass::kLetter);

  // \p{N}{1,kDigits}
  if (first.kind == CharClass::kNumber) {
    std::size_t end = at;
    for (int digit = 0; digit < kDigits; ++digit) {
      const Symbol symbol = symbol_at(text, end);
      if (symbol.kind != CharClass::kNumber) break;
      end += symbol.bytes;
    }
    return end;
  }

  //  ?[^\s\p{L}\p{N}]+[\r\n]*
  if ((first.code == ' ' ? second.kind : first.kind) == CharClass::kOther) {
    std::size_t end = skip_class(text, at + (first.code == ' '), CharClass::kOther);
    while (is_newline(symbol_at(text, end))) ++end;
    return end;
  }

  // \s*[\r\n]+|\s+(?!\S)|\s+
  std::size_t after_newline = at;
  std::size_t end = at;
  for (Symbol symbol = first; symbol.kind == CharClass::kSpace; symbol = symbol_at(text, end)) {
    end += symbol.bytes;
    if (is_newline(symbol)) after_newline = end;
  }
  return after_newline > at ? after_newline : spaces_end(text, at);
}

std::size_t char_pre_token_end(std::string_view text, std::size_t at) { return at + symbol_at(text, at).bytes; }

/// `kPreTokenEnd(text, at)` is the end of the pre-token that starts at `at`.
template <std::size_t (*kPreTokenEnd)(std::string_view, std::size_t)>
std::size_t split_each(std::string_view text, std::size_t begin, std::size_t end, std::span<std::size_t> ends) {
  std::size_t count = 0;
  for (std::size_t at = begin; at < end && count < ends.size(); ++count) ends[count] = at = kPreTokenEnd(text, at);
  return count;
}

}  // namespace

SplitFn split_function(PreTokenizer pre) {
  switch (pre) {
    case PreTokenizer::kGpt2: return split_gpt2</*kDigitsApart=*/false>;
    case PreTokenizer::kLlamaBpe: return split_each<llama_pre_token_end<3>>;
    case PreTokenizer::kQwen2: return split_each<llama_pre_token_end<1>>;
    case PreTokenizer::kSmollm: return split_gpt2</*kDigitsApart=*/true>;
    case PreTokenizer::kChar: return split_each<char_pre_token_end>;
  }
  throw Error(Fault::kBug, "splitter_of: no such pre-tokenizer");
}

std::size_t safe_boundary(std::string_view text, std::size_t at) {
  for (std::size_t newline = text.find('\n', at == 0 ? 0 : at - 1); newline != std::string_view::npos;
       newline = text.find('\n', newline + 1)) {
    const Symbol next = symbol_at(text, newline + 1);
    if (next.kind == CharClass::kLetter && next.bytes == 1) return newline + 1;
  }
  return text.size();
}

std::string_view pattern_of(PreTokenizer pre) {
  switch (pre) {
    case PreTokenizer::kGpt2:
    case PreTokenizer::kSmollm: return kGpt2Pattern;
    case PreTokenizer::kLlamaBpe: return kLlamaPattern;
    case PreTokenizer::kQwen2: return kQwenPattern;
    case PreTokenizer::kChar: return kCharPattern;
  }
  throw Error(Fault::kBug, "pattern_of: no such pre-tokenizer");
}

}  // namespace slipway
