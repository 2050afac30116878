#include "src/data/unicode.hpp"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>

#include <array>
#include <vector>

#include "src/core/error.hpp"

namespace slipway {
namespace {

constexpr std::uint32_t kCodePoints = 0x110000;
constexpr std::uint32_t kReplacement = 0xFFFD;

std::vector<CharClass> expand_runs() {
  std::vector<CharClass> classes(kCodePoints, CharClass::kOther);
  for (std::size_t run = 0; run < kCharClassRuns.size(); ++run) {
    const std::uint32_t first = kCharClassRuns[run] >> 2;
    const std::uint32_t end = run + 1 < kCharClassRuns.size() ? kCharClassRuns[run + 1] >> 2 : kCodePoints;
    for (std::uint32_t code = first; code < end; ++code)
      classes[code] = static_cast<CharClass>(kCharClassRuns[run] & 3);
  }
  return classes;
}

const CharClass* all_classes() {
  static const std::vector<CharClass> classes = expand_runs();  // 1.1 MB, made in a millisecond
  return classes.data();
}

// The code point of each byte, and the byte of each of the first 324 code points (-1: none).
struct Alphabet {
  std::array<std::uint16_t, 256> code_of{};
  std::array<std::int16_t, 324> byte_of{};
  std::array<std::uint8_t, 256> byte_by_rank{};
};
constexpr Alphabet kAlphabet = [] {
  Alphabet alphabet;
  alphabet.byte_of.fill(-1);
  std::uint16_t next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    const std::uint16_t code = printable ? static_cast<std::uint16_t>(byte) : next++;
    alphabet.code_of[static_cast<std::size_t>(byte)] = code;
    alphabet.byte_of[code] = static_cast<std::int16_t>(byte);
  }
  std::size_t rank = 0;
  for (const std::int16_t byte : alphabet.byte_of)
    if (byte >= 0) alphabet.byte_by_rank[rank++] = static_cast<std::uint8_t>(byte);
  return alphabet;
}();

}  // namespace

CharClass class_of(std::uint32_t code) { return code < kCodePoints ? all_classes()[code] : CharClass::kOther; }

Symbol unicode_detail::decode_multibyte(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) -> std::uint32_t {
    return at + i < text.size() ? static_cast<std::uint8_t>(text[at + i]) : 0;
  };
  const auto is_continuation = [&](std::size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const auto symbol = [](std::uint32_t code, std::uint8_t bytes) { return Symbol{code, all_classes()[code], bytes}; };

  const std::uint32_t lead = byte(0);
  if (lead >= 0xC2 && lead < 0xE0 && is_continuation(1)) return symbol((lead & 0x1F) << 6 | (byte(1) & 0x3F), 2);
  if (lead >= 0xE0 && lead < 0xF0 && is_continuation(1) && is_continuation(2)) {
    const std::uint32_t code = (lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    if (code >= 0x800 && (code < 0xD800 || code > 0xDFFF)) return symbol(code, 3);
  }
  if (lead >= 0xF0 && lead < 0xF5 && is_continuation(1) && is_continuation(2) && is_continuation(3)) {
    const std::uint32_t code = (lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
    if (code >= 0x10000 && code < kCodePoints) return symbol(code, 4);
  }
  return {kReplacement, CharClass::kOther, 1};
}

bool is_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const Symbol symbol = symbol_at(text, at);
    if (symbol.code == kReplacement && symbol.bytes == 1) return false;
    at += symbol.bytes;
  }
  return true;
}

void append_utf8(std::string& text, std::uint32_t code) {
  const auto push = [&](std::uint32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    push(code);
  } else if (code < 0x800) {
    push(0xC0 | code >> 6), push(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    push(0xE0 | code >> 12), push(0x80 | (code >> 6 & 0x3F)), push(0x80 | (code & 0x3F));
  } else {
    push(0xF0 | code >> 18), push(0x80 | (code >> 12 & 0x3F)), push(0x80 | (code >> 6 & 0x3F)),
        push(0x80 | (code & 0x3F));
  }
}

std::string bytes_to_unicode(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (const char byte : bytes) append_utf8(text, kAlphabet.code_of[static_cast<std::uint8_t>(byte)]);
  return text;
}

std::optional<std::string> unicode_to_bytes(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const Symbol symbol = symbol_at(text, at);
    if (symbol.code >= kAlphabet.byte_of.size() || kAlphabet.byte_of[symbol.code] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(kAlphabet.byte_of[symbol.code]));
    at += symbol.bytes;
  }
  return bytes;
}

std::uint8_t alphabet_byte(int rank) { return kAlphabet.byte_by_rank.at(static_cast<std::size_t>(rank)); }

std::string to_nfc(std::string_view text) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(status);
  if (U_FAILURE(status)) throw Error(Fault::kBug, join("ICU gave no NFC normalizer: ", u_errorName(status)));

  std::string result;
  result.reserve(text.size());
  const auto normalize = [&](std::string_view part) {  // well-formed UTF-8
    if (part.empty()) return;
    const icu::StringPiece piece(part.data(), static_cast<std::int32_t>(part.size()));
    if (nfc->isNormalizedUTF8(piece, status)) {
      result += part;
    } else {
      icu::StringByteSink<std::string> sink(&result);
      nfc->normalizeUTF8(0, piece, sink, nullptr, status);
    }
    if (U_FAILURE(status)) throw Error(Fault::kBug, join("ICU could not normalize a text: ", u_errorName(status)));
  };

  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const Symbol symbol = symbol_at(text, at);
    if (symbol.code == kReplacement && symbol.bytes == 1) {
      normalize(text.substr(begin, at - begin));
      result += text[at];
      begin = at + 1;
    }
    at += symbol.bytes;
  }
  normalize(text.substr(begin));
  return result;
}

}  // namespace slipway
