// Unicode for tokenizers: strict UTF-8, four character classes, the byte alphabet of GPT-2, and NFC.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace slipway {

/// The class of a code point in pre-tokenization. The classes are exactly llama.cpp's.
enum class CharClass : std::uint8_t {
  kOther,   ///< everything else: punctuation, symbols, marks, controls, unassigned, bytes that are not UTF-8
  kLetter,  ///< \p{L}
  kNumber,  ///< \p{N}
  kSpace,   ///< \s
  kEnd,     ///< no code point: the end of the text
};

/// One code point of a text, or one byte that begins none.
struct Symbol {
  std::uint32_t code = 0;  ///< U+FFFD for a byte that is not part of well-formed UTF-8
  CharClass kind = CharClass::kEnd;
  std::uint8_t bytes = 0;  ///< its length in the text; 0 at the end
};

/// Runs of code points of one class, in order: `first code point << 2 | class` (tools/oracle/unicode_tables.py).
extern const std::span<const std::uint32_t> kCharClassRuns;

CharClass class_of(std::uint32_t code);

/// The symbol that starts at byte `at`. A byte that starts no well-formed sequence (Unicode 15, table 3-7: no
/// surrogates, no over-long forms) is a symbol of its own, of class kOther.
inline Symbol symbol_at(std::string_view text, std::size_t at);

bool is_utf8(std::string_view text);
void append_utf8(std::string& text, std::uint32_t code);

/// The byte alphabet: each byte as one printable code point (33..126, 161..172, 174..255 as themselves, the other 68
/// from 256 on), so that tokens can be written as text.
/// Source   Radford et al., GPT-2, `bytes_to_unicode`.
std::string bytes_to_unicode(std::string_view bytes);
std::optional<std::string> unicode_to_bytes(std::string_view text);  ///< nothing when a code point is none of the 256
std::uint8_t alphabet_byte(int rank);  ///< the byte whose code point is number `rank` (0..255) of the alphabet

/// Unicode's normalization form C, by ICU. Bytes that are not UTF-8 stay as they are.
std::string to_nfc(std::string_view text);

namespace unicode_detail {
constexpr auto kAsciiClasses = [] {
  std::array<CharClass, 128> classes{};  // kOther
  for (std::size_t c = 'a'; c <= 'z'; ++c) classes[c] = classes[c - 'a' + 'A'] = CharClass::kLetter;
  for (std::size_t c = '0'; c <= '9'; ++c) classes[c] = CharClass::kNumber;
  for (std::size_t c = '\t'; c <= '\r'; ++c) classes[c] = CharClass::kSpace;
  classes[' '] = CharClass::kSpace;
  return classes;
}();
Symbol decode_multibyte(std::string_view text, std::size_t at);
}  // namespace unicode_detail

inline Symbol symbol_at(std::string_view text, std::size_t at) {
  if (at >= text.size()) return {};
  const auto byte = static_cast<std::uint8_t>(text[at]);
  if (byte < 0x80) return {byte, unicode_detail::kAsciiClasses[byte], 1};
  return unicode_detail::decode_multibyte(text, at);
}

}  // namespace slipway
