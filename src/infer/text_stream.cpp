#include "src/infer/text_stream.hpp"

#include <algorithm>

#include "src/data/unicode.hpp"

namespace slipway {
namespace {

/// The number of bytes at the end of `text` that may be the beginning of a UTF-8 character.
std::size_t incomplete_suffix_size(std::string_view text) {
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, text.size()); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if (byte < 0x80) return 0;
    if (byte < 0xc0) continue;  // a continuation byte
    const std::size_t length = byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
    return back < length ? back : 0;
  }
  return 0;
}

/// `bytes` as well-formed UTF-8: every invalid byte becomes U+FFFD.
std::string replace_invalid_utf8(std::string_view bytes) {
  std::string text;
  for (std::size_t at = 0; at < bytes.size();) {
    const Symbol symbol = symbol_at(bytes, at);
    append_utf8(text, symbol.code);
    at += symbol.bytes;
  }
  return text;
}

}  // namespace

TextStream::TextStream(std::vector<std::string> stops, std::function<void(std::string_view)> on_text)
    : stops_(std::move(stops)), on_text_(std::move(on_text)) {
  std::erase(stops_, "");
}

bool TextStream::add(std::string_view bytes) {
  const std::size_t old_size = text_.size();
  text_ += bytes;
  std::size_t stop_begin = std::string::npos;
  std::size_t held_back = 0;  // bytes of the longest suffix of the text that is a prefix of a stop string
  for (const std::string& stop : stops_) {
    const std::size_t at = text_.find(stop, old_size - std::min(old_size, stop.size() - 1));
    if (at < stop_begin) stop_begin = at, stop_ = stop;
    for (std::size_t length = std::min(stop.size() - 1, text_.size()); length > held_back; --length)
      if (text_.ends_with(std::string_view(stop).substr(0, length))) held_back = length;
  }
  if (stop_begin != std::string::npos) {
    text_.resize(stop_begin);
    return true;
  }
  const std::size_t end = text_.size() - held_back;
  emit(end - incomplete_suffix_size(std::string_view(text_).substr(0, end)));
  return false;
}

void TextStream::finish() { emit(text_.size()); }

void TextStream::emit(std::size_t end) {
  if (end <= emitted_) return;
  if (on_text_) on_text_(replace_invalid_utf8(std::string_view(text_).substr(emitted_, end - emitted_)));
  emitted_ = end;
}

}  // namespace slipway
