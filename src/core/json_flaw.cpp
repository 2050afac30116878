#include "src/core/json_flaw.hpp"

#include <algorithm>

namespace slipway {
namespace {

/// A SAX handler that ignores values and keeps the first error with its position, which some exceptions lack.
struct FlawFinder : nlohmann::json_sax<Json> {
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
  bool parse_error(std::size_t position, const std::string& last_token, const nlohmann::json::exception& why) override {
    end = position, token = last_token, reason = reason_of(why);
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

JsonFlaw flaw_of(std::string_view text) {
  FlawFinder finder;
  if (Json::sax_parse(text, &finder)) return {1, 1, "it is JSON"};
  const std::size_t last = std::min(finder.end == 0 ? 0 : finder.end - 1, text.size());
  const std::size_t sign = last > 0 && last < text.size() && text[last - 1] == '-' && text[last] == 'I' ? 1 : 0;
  JsonFlaw flaw;
  std::size_t at = last;
  for (const std::string_view word : {"NaN", "-NaN", "nan", "Infinity", "-Infinity", "inf", "-inf"})
    if (text.substr(last - sign).starts_with(word)) {
      at = last - sign;
      flaw.reason = join(word, " is not a JSON number");
    }
  if (finder.reason.find("number overflow") != std::string::npos) {
    at = finder.end - std::min(finder.end, finder.token.size());
    flaw.reason = join("the number ", finder.token.substr(0, 40), " is too large for a double");
  } else if (finder.reason.find("surrogate") != std::string::npos) {
    flaw.reason = "half of a surrogate pair (\\ud800 to \\udfff) stands alone in a string";
  } else if (last >= text.size()) {
    flaw.reason = "it ends too early";
    flaw.ends_early = true;
  }
  if (flaw.reason.empty()) flaw.reason = join(finder.reason, ", found ", excerpt(text, at));
  const std::string_view before = text.substr(0, at);
  flaw.line = 1 + std::count(before.begin(), before.end(), '\n');
  flaw.column = static_cast<std::int64_t>(at - (before.rfind('\n') + 1)) + 1;
  return flaw;
}

}  // namespace slipway
