// Streams the bytes of tokens as displayable text.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway {

/// Collects bytes, searches for stop strings, and passes on text that can no longer become part of one.
class TextStream {
 public:
  /// `on_text` may be empty. Empty stop strings are ignored.
  TextStream(std::vector<std::string> stops, std::function<void(std::string_view)> on_text);

  /// Adds bytes. True when they complete a stop string: the text then ends before it.
  bool add(std::string_view bytes);
  /// Ends the stream: passes on all text that was held back.
  void finish();

  const std::string& text() const { return text_; }  ///< the bytes so far, without a stop string
  const std::string& stop() const { return stop_; }  ///< the stop string that was found

 private:
  void emit(std::size_t end);

  std::vector<std::string> stops_;
  std::function<void(std::string_view)> on_text_;
  std::string text_, stop_;
  std::size_t emitted_ = 0;  // bytes of text_ passed to on_text_
};

}  // namespace slipway
