// Classifies 8 or 64 ASCII characters at once, one bit each: the fast path of pre-tokenization.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace slipway::ascii {

static_assert(std::endian::native == std::endian::little, "the first byte of a text is the low one of a word");

inline constexpr std::uint64_t kOnes = 0x0101010101010101u, kHighBits = 0x80 * kOnes;

inline std::uint64_t load(const char* text) {
  std::uint64_t bytes;
  std::memcpy(&bytes, text, sizeof bytes);
  return bytes;
}

/// The high bit of each byte of `bytes` that lies in [low, high], where all are below 0x80: sums carry into that bit.
constexpr std::uint64_t in_range(std::uint64_t bytes, std::uint8_t low, std::uint8_t high) {
  return (bytes + kOnes * (0x80 - low)) & ~(bytes + kOnes * (0x7F - high)) & kHighBits;
}
constexpr std::uint64_t letters(std::uint64_t bytes) { return in_range(bytes | kOnes * 0x20, 'a', 'z'); }
constexpr std::uint64_t numbers(std::uint64_t bytes) { return in_range(bytes, '0', '9'); }
constexpr std::uint64_t spaces(std::uint64_t bytes) { return in_range(bytes, '\t', '\r') | in_range(bytes, ' ', ' '); }

/// The high bits of eight bytes as the low eight bits, the first byte's lowest.
constexpr std::uint64_t collect_bits(std::uint64_t high_bits) { return (high_bits >> 7) * 0x0102040810204080u >> 56; }

/// 64 bytes of text: bit i stands for byte i. Bytes of 0x80 and above are in `non_ascii` and, in the others, undefined.
struct Block {
  static constexpr std::size_t kBytes = 64;
  std::uint64_t non_ascii = 0, letters = 0, numbers = 0, spaces = 0, blanks = 0, apostrophes = 0;

  explicit Block(const char* text) {
    for (std::size_t at = 0; at < kBytes; at += sizeof(std::uint64_t)) {
      const std::uint64_t bytes = load(text + at), low = bytes & ~kHighBits;
      non_ascii |= collect_bits(bytes & kHighBits) << at;
      letters |= collect_bits(ascii::letters(low)) << at;
      numbers |= collect_bits(ascii::numbers(low)) << at;
      spaces |= collect_bits(ascii::spaces(low)) << at;
      blanks |= collect_bits(in_range(low, ' ', ' ')) << at;
      apostrophes |= collect_bits(in_range(low, '\'', '\'')) << at;
    }
  }
};

}  // namespace slipway::ascii
