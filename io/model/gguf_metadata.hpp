// The metadata (key-value pairs) of a GGUF file, in the order of the file.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace slipway {

/// Elements of one type. The alternative's index is GGUF's id of the element type; arrays of arrays are refused.
using GgufArray = std::variant<std::vector<std::uint8_t>, std::vector<std::int8_t>, std::vector<std::uint16_t>,
                               std::vector<std::int16_t>, std::vector<std::uint32_t>, std::vector<std::int32_t>,
                               std::vector<float>, std::vector<bool>, std::vector<std::string>, std::monostate,
                               std::vector<std::uint64_t>, std::vector<std::int64_t>, std::vector<double>>;

/// One value. The alternative's index is GGUF's id of the type, so a value is written with exactly its type: llama.cpp
/// refuses an i32 where it expects a u32.
using GgufValue = std::variant<std::uint8_t, std::int8_t, std::uint16_t, std::int16_t, std::uint32_t, std::int32_t,
                               float, bool, std::string, GgufArray, std::uint64_t, std::int64_t, double>;

/// Keys and values in order. Getters with a `default_value` return it when the key is absent.
/// Errors   getters: Fault::kStorage for a missing key without a default and for a value of another type, naming the
///          file, the key and its type.
class GgufMetadata {
 public:
  /// `source_name` is the file's name in errors.
  explicit GgufMetadata(std::string source_name = "the GGUF") : source_name_(std::move(source_name)) {}

  /// Errors   Fault::kBug when the key is there already.
  void add(std::string key, GgufValue value);

  bool has(std::string_view key) const { return find(key) != nullptr; }
  const GgufValue* find(std::string_view key) const;  ///< null when absent
  const GgufValue& at(std::string_view key) const;

  std::int64_t integer(std::string_view key) const;  ///< any integer type that fits
  double real(std::string_view key) const;           ///< f32 or f64
  bool boolean(std::string_view key) const;
  const std::string& text(std::string_view key) const;
  const std::vector<std::string>& texts(std::string_view key) const;
  std::vector<std::int64_t> integers(std::string_view key) const;  ///< an array of any integer type

  std::int64_t integer(std::string_view key, std::int64_t default_value) const {
    return has(key) ? integer(key) : default_value;
  }
  double real(std::string_view key, double default_value) const { return has(key) ? real(key) : default_value; }
  bool boolean(std::string_view key, bool default_value) const { return has(key) ? boolean(key) : default_value; }
  std::string text(std::string_view key, const std::string& default_value) const {
    return has(key) ? text(key) : default_value;
  }

  const std::string& source_name() const { return source_name_; }
  std::size_t size() const { return pairs_.size(); }
  auto begin() const { return pairs_.begin(); }
  auto end() const { return pairs_.end(); }

 private:
  std::string source_name_;
  std::vector<std::pair<std::string, GgufValue>> pairs_;
  std::map<std::string, std::size_t, std::less<>> indices_;
};

/// The name of a value's type in GGUF: "u32", "string", "array".
std::string_view gguf_type_name(std::size_t index);

}  // namespace slipway
