#include "io/model/gguf_metadata.hpp"

#include <array>
#include <limits>
#include <type_traits>

#include "src/core/error.hpp"

namespace slipway {
namespace {

constexpr std::array<std::string_view, 13> kTypeNames = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                         "bool", "string", "array", "u64", "i64", "f64"};

template <class T>
constexpr bool kIsInteger = std::is_integral_v<T> && !std::is_same_v<T, bool>;

[[noreturn]] void throw_wrong_type(const GgufMetadata& metadata, std::string_view key, const GgufValue& value,
                                   std::string_view expected) {
  throw Error(Fault::kStorage,
              join(metadata.source_name(), ": the key ", key, " has the type ", gguf_type_name(value.index()),
                   ", expected ", expected, "; the file is damaged or of another kind"));
}

template <class T>
const T& get_as(const GgufMetadata& metadata, std::string_view key, std::string_view expected) {
  const GgufValue& value = metadata.at(key);
  if (const T* found = std::get_if<T>(&value)) return *found;
  throw_wrong_type(metadata, key, value, expected);
}

std::int64_t to_integer(const GgufMetadata& metadata, std::string_view key, std::uint64_t number) {
  if (number <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    return static_cast<std::int64_t>(number);
  throw Error(Fault::kStorage, join(metadata.source_name(), ": the key ", key, " holds ", number,
                                    ", which is beyond any size of a model"));
}

}  // namespace

std::string_view gguf_type_name(std::size_t index) { return index < kTypeNames.size() ? kTypeNames[index] : "unknown"; }

void GgufMetadata::add(std::string key, GgufValue value) {
  require(indices_.emplace(key, pairs_.size()).second, join("GgufMetadata::add: the key ", key, " is there already"));
  pairs_.emplace_back(std::move(key), std::move(value));
}

const GgufValue* GgufMetadata::find(std::string_view key) const {
  const auto found = indices_.find(key);
  return found == indices_.end() ? nullptr : &pairs_[found->second].second;
}

const GgufValue& GgufMetadata::at(std::string_view key) const {
  if (const GgufValue* value = find(key)) return *value;
  throw Error(Fault::kStorage, join(source_name_, ": the key ", key, " is missing, so the model cannot be understood"));
}

std::int64_t GgufMetadata::integer(std::string_view key) const {
  const GgufValue& value = at(key);
  return std::visit(
      [&](const auto& alternative) -> std::int64_t {
        using T = std::decay_t<decltype(alternative)>;
        if constexpr (std::is_same_v<T, std::uint64_t>) return to_integer(*this, key, alternative);
        else if constexpr (kIsInteger<T>) return alternative;
        else throw_wrong_type(*this, key, value, "an integer");
      },
      value);
}

double GgufMetadata::real(std::string_view key) const {
  const GgufValue& value = at(key);
  if (const float* float_value = std::get_if<float>(&value)) return *float_value;
  if (const double* double_value = std::get_if<double>(&value)) return *double_value;
  throw_wrong_type(*this, key, value, "f32");
}

bool GgufMetadata::boolean(std::string_view key) const { return get_as<bool>(*this, key, "bool"); }
const std::string& GgufMetadata::text(std::string_view key) const { return get_as<std::string>(*this, key, "string"); }

const std::vector<std::string>& GgufMetadata::texts(std::string_view key) const {
  const auto& array = get_as<GgufArray>(*this, key, "an array of strings");
  if (const auto* found = std::get_if<std::vector<std::string>>(&array)) return *found;
  throw_wrong_type(*this, key, at(key), "an array of strings");
}

std::vector<std::int64_t> GgufMetadata::integers(std::string_view key) const {
  std::vector<std::int64_t> numbers;
  std::visit(
      [&](const auto& alternative) {
        if constexpr (!std::is_same_v<std::decay_t<decltype(alternative)>, std::monostate>) {
          using T = typename std::decay_t<decltype(alternative)>::value_type;
          if constexpr (std::is_same_v<T, std::uint64_t>)
            for (const std::uint64_t number : alternative) numbers.push_back(to_integer(*this, key, number));
          else if constexpr (kIsInteger<T>) numbers.assign(alternative.begin(), alternative.end());
          else throw_wrong_type(*this, key, at(key), "an array of integers");
        }
      },
      get_as<GgufArray>(*this, key, "an array of integers"));
  return numbers;
}

}  // namespace slipway
