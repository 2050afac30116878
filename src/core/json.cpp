#include "src/core/json.hpp"

#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <utility>
#include <vector>

#include "src/core/file.hpp"
#include "src/core/json_error.hpp"

namespace slipway {
namespace {

bool all_finite(const Json& json) {
  if (json.is_number_float()) return std::isfinite(json.get<double>());
  return !json.is_structured() || std::all_of(json.begin(), json.end(), all_finite);
}

void stringify_non_finite(Json& json) {
  if (json.is_structured())
    for (Json& element : json) stringify_non_finite(element);
  if (!json.is_number_float()) return;
  const double value = json.get<double>();
  if (!std::isfinite(value)) json = std::isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
}

/// Builds the tree of a text in linear time: the library's ordered parser searches all keys of an object for each new
/// one, so that a file of a megabyte could take minutes. Of equal keys the last value wins, as in the library.
class TreeBuilder : public nlohmann::json_sax<Json> {
 public:
  explicit TreeBuilder(Json& root) : root_(root) {}

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return false; }  // no text has any
  bool start_object(std::size_t) override { return open(Json::value_t::object); }
  bool start_array(std::size_t) override { return open(Json::value_t::array); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    Level& level = levels_.back();
    auto& entries = static_cast<Json::object_t::Container&>(level.value.get_ref<Json::object_t&>());
    if (entries.size() == kMaxLinearSearch)
      for (std::size_t i = 0; i < entries.size(); ++i) level.indices.emplace(entries[i].first, i);
    if (const std::size_t index = find_index(level, entries, name); index < entries.size()) {
      level.next = index;
      return true;
    }
    level.next = entries.size();
    if (entries.size() >= kMaxLinearSearch) level.indices.emplace(name, entries.size());
    entries.emplace_back(std::move(name), nullptr);
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception&) override { return false; }

 private:
  static constexpr std::size_t kMaxLinearSearch = 16;  // keys up to which a linear search beats hashing
  struct Level {
    Json value;
    std::unordered_map<std::string, std::size_t> indices;  ///< of an object with more than kMaxLinearSearch keys
    std::size_t next = 0;                                  ///< where an object's next value goes
  };

  static std::size_t find_index(const Level& level, const Json::object_t::Container& entries, const std::string& name) {
    if (entries.size() < kMaxLinearSearch)
      return static_cast<std::size_t>(
          std::ranges::find(entries, name, [](const auto& entry) -> const std::string& { return entry.first; }) -
          entries.begin());
    const auto it = level.indices.find(name);
    return it == level.indices.end() ? entries.size() : it->second;
  }
  bool add(Json value) {
    if (levels_.empty()) {
      root_ = std::move(value);
      return true;
    }
    Level& level = levels_.back();
    if (level.value.is_array()) level.value.get_ref<Json::array_t&>().push_back(std::move(value));
    else
      static_cast<Json::object_t::Container&>(level.value.get_ref<Json::object_t&>())[level.next].second =
          std::move(value);
    return true;
  }
  bool open(Json::value_t type) {
    levels_.push_back({Json(type), {}, 0});
    return true;
  }
  bool close() {
    Json value = std::move(levels_.back().value);
    levels_.pop_back();
    return add(std::move(value));
  }

  Json& root_;
  std::vector<Level> levels_;
};

std::string dump(const Json& json, int indent) {
  if (all_finite(json)) return json.dump(indent, ' ', false, Json::error_handler_t::replace);
  Json copy = json;
  stringify_non_finite(copy);
  return dump(copy, indent);
}

}  // namespace

int json_depth(std::string_view text) {
  int depth = 0, deepest = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted && c == '\\') ++i;
    else if (c == '"') quoted = !quoted;
    else if (!quoted && (c == '[' || c == '{')) deepest = std::max(deepest, ++depth);
    else if (!quoted && (c == ']' || c == '}')) --depth;
  }
  return deepest;
}

Json parse_json(std::string_view text, const FileLocation& location, Fault fault) {
  if (const int depth = json_depth(text); depth > kMaxJsonDepth)
    throw Error(fault,
                join(location, ": the JSON is nested ", depth, " deep, at most ", kMaxJsonDepth, " is expected"));
  Json json;
  try {
    TreeBuilder builder(json);
    if (Json::sax_parse(text, &builder)) return json;
  } catch (const nlohmann::json::exception&) {  // as below
  }
  const JsonError error = find_json_error(text);
  throw Error(
      fault, join(location, ": not valid JSON (line ", error.line, ", column ", error.column, ": ", error.reason, ")"));
}

Json read_json(const std::filesystem::path& path, Fault fault) {
  return parse_json(read_file(path, fault), FileLocation{path}, fault);
}

std::string to_line(const Json& json) { return dump(json, -1); }

std::string to_pretty(const Json& json) { return dump(json, 2) + "\n"; }

}  // namespace slipway
