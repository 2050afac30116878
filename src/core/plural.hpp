// Counts with singular or plural nouns.
#pragma once

#include <string>
#include <string_view>

#include "src/core/error.hpp"

namespace slipway {

/// "1 thread", "2 threads"; with `many` where the plural is not the singular and an s: pluralize(2, "batch", "batches").
template <class Count>
std::string pluralize(Count count, std::string_view one, std::string_view many = {}) {
  if (count == Count{1}) return join(count, " ", one);
  return many.empty() ? join(count, " ", one, "s") : join(count, " ", many);
}

}  // namespace slipway
