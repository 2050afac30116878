#include "src/core/json_error.hpp"

#include <algorithm>

namespace slipway {
namespace {

/// A SAX handler that ignores values and keeps the first error with its position, which some exceptions lack.
struct ErrorFinder : nlohmann::json_sax<Json> {
  std::size_t end = 0;  // bytes read when the error was found
  std::string token, reason;

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return true; }
  bool key(string_t&) override { return true; }
  bool end_object() override { return true; }
  bool start_array(std::size_t) override { return true; }
  bool end_array() override { return true; }
  bool parse_error(std::size_t position, const std::string& last_token,
                   const nlohmann::json::exception& error) override {
    end = position, token = last_token, reason = reason_of(error);
    return false;
  }
};

/// `text` from `from` on, shortened for a message.
std::string excerpt(std::string_view text, std::size_t from) {
  constexpr std::size_t kMax = 24;
  const std::string_view rest = text.substr(std::min(from, text.size()));
  return join("'", rest.substr(0, std::min(rest.find_first_of("\r\n"), kMax)), "'");
}

}  // namespace

std::string reason_of(const nlohmann::json::exception& exception) {
  std::string text = exception.what();  // "[json.exception.type_error.302] type must be string, but is number"
  if (text.starts_with('[')) text.erase(0, std::min(text.find("] ") + 2, text.size()));
  if (text.starts_with("parse error at")) text.erase(0, std::min(text.find(": ") + 2, text.size()));
  if (text.starts_with("syntax error")) text.erase(0, std::min(text.find(" - ") + 3, text.size()));
  return text.substr(0, text.find("; last read"));
}

JsonError find_json_error(std::string_view text) {
  ErrorFinder handler;
  if (Json::sax_parse(text, &handler)) return {1, 1, "it is JSON"};
  const std::size_t last = std::min(handler.end == 0 ? 0 : handler.end - 1, text.size());
  const std::size_t has_sign = last > 0 && last < text.size() && text[last - 1] == '-' && text[last] == 'I' ? 1 : 0;
  JsonError error;
  std::size_t offset = last;
  for (const std::string_view word : {"NaN", "-NaN", "nan", "Infinity", "-Infinity", "inf", "-inf"})
    if (text.substr(last - has_sign).starts_with(word)) {
      offset = last - has_sign;
      error.reason = join(word, " is not a JSON number");
    }
  if (handler.reason.find("number overflow") != std::string::npos) {
    offset = handler.end - std::min(handler.end, handler.token.size());
    error.reason = join("the number ", handler.token.substr(0, 40), " is too large for a double");
  } else if (handler.reason.find("surrogate") != std::string::npos) {
    error.reason = "half of a surrogate pair (\\ud800 to \\udfff) stands alone in a string";
  } else if (last >= text.size()) {
    error.reason = "it ends too early";
    error.is_truncated = true;
  }
  if (error.reason.empty()) error.reason = join(handler.reason, ", found ", excerpt(text, offset));
  const std::string_view prefix = text.substr(0, offset);
  error.line = 1 + std::count(prefix.begin(), prefix.end(), '\n');
  error.column = static_cast<std::int64_t>(offset - (prefix.rfind('\n') + 1)) + 1;
  return error;
}

}  // namespace slipway
