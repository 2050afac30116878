// Counted nouns, and lists in sentences.
#pragma once

#include <string>
#include <string_view>

#include "src/core/error.hpp"

namespace slipway {

/// "1 thread", "2 threads"; with `plural` where the plural is not the singular and an s: pluralize(2, "batch", "batches").
template <class Count>
std::string pluralize(Count count, std::string_view singular, std::string_view plural = {}) {
  if (count == Count{1}) return join(count, " ", singular);
  return plural.empty() ? join(count, " ", singular, "s") : join(count, " ", plural);
}

/// The items as a choice: "a", "a or b", "a, b or c"; each with `prefix` before it.
template <class Items>
std::string join_or(const Items& items, std::string_view prefix = {}) {
  std::string text;
  std::size_t remaining = std::size(items);
  for (const auto& item : items) {
    text += join(prefix, item);
    if (--remaining != 0) text += remaining == 1 ? " or " : ", ";
  }
  return text;
}

}  // namespace slipway
