// A byte-level tokenizer without training: 256 bytes, a few English merges, and special tokens up to a given size.
#pragma once

#include <string>
#include <vector>

#include "src/data/tokenizer.hpp"

namespace slipway::test {

/// The code point that stands for a byte in GPT-2's alphabet, as UTF-8.
inline std::string byte_token(int byte) {
  const auto printable = [](int b) { return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174; };
  int code = byte;
  if (!printable(byte)) {
    code = 256;
    for (int b = 0; b < byte; ++b) code += printable(b) ? 0 : 1;
  }
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 63))};
}

/// `vocabulary` of at least 270 ids: bytes, merges, then `<|endoftext|>` and other control tokens.
inline Tokenizer tiny_tokenizer(int vocabulary, PreTokenizer pre = PreTokenizer::kGpt2) {
  Tokenizer::Parts parts{.pre = pre};
  for (int byte = 0; byte < 256; ++byte) parts.tokens.push_back(byte_token(byte));
  const std::string space = byte_token(' ');
  const std::pair<std::string, std::string> merges[] = {{"t", "h"},   {"th", "e"}, {space, "the"}, {"i", "n"},
                                                        {space, "a"}, {"e", "r"},  {"in", "g"},    {"o", "n"}};
  for (const auto& [left, right] : merges) {
    parts.merges.push_back(left + " " + right);
    parts.tokens.push_back(left + right);
  }
  while (static_cast<int>(parts.tokens.size()) < vocabulary) {
    const int id = static_cast<int>(parts.tokens.size());
    parts.special_tokens.push_back(id);
    parts.tokens.push_back(parts.special_tokens.size() == 1 ? "<|endoftext|>"
                                                            : "<|special_" + std::to_string(id) + "|>");
  }
  parts.bos = parts.eos = parts.special_tokens.front();
  parts.chat_template = "{{ messages[0].content }}";
  return Tokenizer::from_parts(std::move(parts));
}

}  // namespace slipway::test
