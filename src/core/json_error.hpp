// Why a text is not the expected JSON, for error messages.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "src/core/json.hpp"

namespace slipway {

/// The reason of a JSON exception, without the library's codes.
std::string reason_of(const nlohmann::json::exception& exception);

/// Where and why a text is not JSON.
struct JsonError {
  std::int64_t line = 1;      ///< counted from 1
  std::int64_t column = 1;    ///< in bytes, counted from 1
  std::string reason;         ///< "NaN is not a JSON number"
  bool is_truncated = false;  ///< the text is valid but truncated
};
/// The flaw of a text that does not parse. Cost: parses it again.
JsonError find_json_error(std::string_view text);

}  // namespace slipway
