#include "src/data/document.hpp"

#include <unicode/utf8.h>

#include <cstring>

namespace slipway {

std::size_t find_invalid_utf8(std::string_view text) {
  constexpr std::uint64_t kHighBits = 0x8080808080808080u;
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(text.data());
  const std::size_t size = text.size();
  for (std::size_t at = 0; at < size;) {
    std::uint64_t word = 0;
    if (at + sizeof word <= size) {  // ASCII, eight bytes at a time
      std::memcpy(&word, bytes + at, sizeof word);
      if ((word & kHighBits) == 0) {
        at += sizeof word;
        continue;
      }
    }
    const std::size_t first = at;
    UChar32 code = 0;
    U8_NEXT(bytes, at, size, code);
    if (code < 0) return first;
  }
  return std::string_view::npos;
}

}  // namespace slipway
