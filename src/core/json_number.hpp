// Checked integers from untrusted JSON: the library's own conversion truncates silently.
#pragma once

#include <limits>
#include <type_traits>

#include "src/core/json.hpp"

namespace slipway {

/// The number as a T. Errors: the JSON library's type_error when it is not a number, has a fraction, or does not fit.
template <class T>
T checked_integer(const Json& json) {
  static_assert(std::is_integral_v<T> && !std::is_same_v<T, bool>);
  const auto throw_type_error = [&](const char* reason) {
    throw Json::type_error::create(302, join("the number ", to_line(json).substr(0, 40), " ", reason), &json);
  };
  if (!json.is_number_integer()) throw_type_error("is not whole");
  if (json.is_number_unsigned()) {
    const auto value = json.get<std::uint64_t>();
    if (value > static_cast<std::uint64_t>(std::numeric_limits<T>::max())) throw_type_error("is too large");
    return static_cast<T>(value);
  }
  const auto value = json.get<std::int64_t>();
  if constexpr (std::is_unsigned_v<T>) {
    if (value < 0) throw_type_error("is below zero");
    if (static_cast<std::uint64_t>(value) > std::numeric_limits<T>::max()) throw_type_error("is too large");
  } else if (value < std::numeric_limits<T>::min() || value > std::numeric_limits<T>::max()) {
    throw_type_error("does not fit");  // parsed from text it is negative; built in memory it may be anything
  }
  return static_cast<T>(value);
}

/// The same for counts, which are not negative.
template <class T>
T checked_count(const Json& json) {
  const T value = checked_integer<T>(json);
  if (value < 0) throw Json::type_error::create(302, join("the count ", value, " is below zero"), &json);
  return value;
}

}  // namespace slipway
