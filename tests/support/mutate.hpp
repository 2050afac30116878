// Mutations of files, each a pure function of its random draws: of bytes, of JSON, of INI lines, and of binary files
// whose fields are known.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "src/core/json.hpp"
#include "src/core/random.hpp"

namespace slipway::test {

/// A sequence of random numbers; the same for the same seed on every machine.
class FuzzRng {
 public:
  FuzzRng(std::uint64_t seed, const char* stream) : random_(seed, stream_of(stream)) {}
  std::size_t below(std::size_t limit) { return limit == 0 ? 0 : random_.bits(next_++) % limit; }
  bool one_in(std::size_t n) { return below(n) == 0; }
  template <class T>
  const T& pick(const std::vector<T>& all) {
    return all[below(all.size())];
  }

 private:
  Random random_;
  std::uint64_t next_ = 0;
};

/// An integer somewhere in a file.
struct Field {
  std::size_t at = 0, width = 0;
};

/// Values of counts, lengths and offsets that readers often handle wrongly.
inline std::uint64_t extreme_value(FuzzRng& rng, std::uint64_t now, std::uint64_t file_size) {
  const std::vector<std::uint64_t> all = {0,
                                          1,
                                          2,
                                          ~std::uint64_t{0},
                                          ~std::uint64_t{0} - 1,
                                          std::uint64_t{1} << 31,
                                          (std::uint64_t{1} << 31) - 1,
                                          std::uint64_t{1} << 32,
                                          std::uint64_t{1} << 62,
                                          std::uint64_t{1} << 63,
                                          (std::uint64_t{1} << 63) - 1,
                                          file_size,
                                          file_size - 1,
                                          file_size + 1,
                                          file_size / 8,
                                          now + 1,
                                          now - 1,
                                          now * 2,
                                          now / 2,
                                          ~now + 1,
                                          now ^ (std::uint64_t{1} << 63),
                                          rng.below(64)};
  return rng.pick(all);
}

inline void set_field(std::string& bytes, Field field, std::uint64_t value) {
  if (field.at + field.width <= bytes.size()) std::memcpy(bytes.data() + field.at, &value, field.width);
}
inline std::uint64_t get_field(const std::string& bytes, Field field) {
  std::uint64_t value = 0;
  if (field.at + field.width <= bytes.size()) std::memcpy(&value, bytes.data() + field.at, field.width);
  return value;
}

/// One mutation of any file.
inline void mutate_bytes(std::string& bytes, FuzzRng& rng) {
  constexpr std::size_t kMaxChunk = 512;
  const std::size_t size = bytes.size();
  if (size == 0) {
    bytes.assign(rng.below(64), static_cast<char>(rng.below(256)));
    return;
  }
  // Headers matter most to readers: half of all mutations are in the first bytes.
  const auto place = [&] { return rng.one_in(2) ? rng.below(std::min<std::size_t>(size, 256)) : rng.below(size); };
  const auto chunk = [&](std::size_t at) { return 1 + rng.below(std::min(kMaxChunk, size - at)); };
  switch (rng.below(10)) {
    case 0: bytes[place()] ^= static_cast<char>(1 << rng.below(8)); break;
    case 1: bytes[place()] = static_cast<char>(std::array{0x00, 0xff, 0x7f, 0x80, 0x0a, 0x22}[rng.below(6)]); break;
    case 2:
    case 3: {
      const std::size_t width = std::array<std::size_t, 3>{2, 4, 8}[rng.below(3)];
      const Field field{place() / width * width, width};
      set_field(bytes, field, extreme_value(rng, get_field(bytes, field), size));
      break;
    }
    case 4: bytes.resize(rng.below(size)); break;
    case 5: bytes.append(1 + rng.below(4096), static_cast<char>(rng.one_in(2) ? 0 : rng.below(256))); break;
    case 6: {
      const std::size_t at = place();
      bytes.erase(at, chunk(at));
      break;
    }
    case 7: {
      const std::size_t at = place();
      bytes.insert(at, bytes.substr(at, chunk(at)));
      break;
    }
    case 8: {
      const std::size_t a = place(), b = place(), count = std::min(chunk(a), size - std::max(a, b));
      for (std::size_t i = 0; i < count; ++i) std::swap(bytes[a + i], bytes[b + i]);
      break;
    }
    default: {
      const std::size_t at = place(), count = chunk(at);
      for (std::size_t i = 0; i < count; ++i) bytes[at + i] = static_cast<char>(rng.below(256));
    }
  }
}

/// Text in place of a JSON value, which may not be valid JSON.
inline std::string random_json_value(FuzzRng& rng) {
  constexpr std::size_t kLong = 1 << 20;
  const auto repeated = [](std::string_view open, std::size_t count, std::string_view inside, std::string_view close) {
    std::string text;
    for (std::size_t i = 0; i < count; ++i) text += open;
    text += inside;
    for (std::size_t i = 0; i < count; ++i) text += close;
    return text;
  };
  if (rng.one_in(24)) switch (rng.below(6)) {  // large ones cost time, so they are rarer
      case 0: return "\"" + std::string(kLong, 'x') + "\"";
      case 1: return repeated("[", 100'000, "", "]");
      case 2: return repeated("{\"a\":", 50'000, "1", "}");
      case 3: return "[0" + repeated(",[]", 200'000, "", "") + "]";
      case 4: {
        std::string text = "{\"k\":0";
        for (int i = 0; i < 50'000; ++i) text += ",\"k" + std::to_string(i) + "\":" + std::to_string(i);
        return text + "}";
      }
      default: return "[0" + repeated(",{\"a\":\"\"}", 20'000, "", "") + "]";
    }
  static const std::vector<std::string> kValues = {"null",
                                                   "true",
                                                   "false",
                                                   "0",
                                                   "-0",
                                                   "1",
                                                   "-1",
                                                   "2",
                                                   "3",
                                                   "0.5",
                                                   "1.5",
                                                   "-1.5",
                                                   "1e18",
                                                   "-1e18",
                                                   "1e300",
                                                   "-1e300",
                                                   "1e999",
                                                   "-1e999",
                                                   "NaN",
                                                   "Infinity",
                                                   "-Infinity",
                                                   "255",
                                                   "256",
                                                   "65535",
                                                   "65536",
                                                   "2147483647",
                                                   "2147483648",
                                                   "-2147483648",
                                                   "-2147483649",
                                                   "4294967295",
                                                   "4294967296",
                                                   "4294967297",
                                                   "9007199254740993",
                                                   "9223372036854775807",
                                                   "9223372036854775808",
                                                   "-9223372036854775808",
                                                   "18446744073709551615",
                                                   "18446744073709551616",
                                                   "1e-300",
                                                   "5e-324",
                                                   "\"\"",
                                                   "\"a\"",
                                                   "\"\\u0000\"",
                                                   "\"\\ud800\"",
                                                   "\"\xff\xfe\"",
                                                   "\"\xc3\"",
                                                   "\"..\"",
                                                   "\"../x\"",
                                                   "\"/etc/passwd\"",
                                                   "\"manifest.json\"",
                                                   "\"-1\"",
                                                   "\"1e999\"",
                                                   "\"\xc2\x85\\n\"",
                                                   "[]",
                                                   "{}",
                                                   "[[]]",
                                                   "[{}]",
                                                   "{\"\":{}}",
                                                   "[null]",
                                                   "[0]",
                                                   "[0,0]",
                                                   "[-1,-1]",
                                                   "[1,2,3]",
                                                   "[1,1]",
                                                   "[1e300,1]",
                                                   "[\"a\",\"b\"]",
                                                   "[0,18446744073709551615]",
                                                   "[9223372036854775807,9223372036854775807]",
                                                   "[4611686018427387904,4]",
                                                   "[1073741824,1073741824]",
                                                   "[[0,0],[1,1]]",
                                                   "",
                                                   "nul",
                                                   "\"",
                                                   "{",
                                                   "]",
                                                   "/* */ 1"};
  return rng.pick(kValues);
}

/// One mutation of a JSON document: of a node of its tree where it parses, else of its bytes. Every level of the tree
/// is equally likely, so that long lists do not get most mutations.
inline void mutate_json(std::string& text, FuzzRng& rng) {
  // A document that an earlier mutation made deep or long is not parsed: printing it again would take too long.
  constexpr std::size_t kMax = 4 << 20;
  const bool as_bytes = rng.one_in(8) || text.size() > kMax || json_depth(text) > kMaxJsonDepth;
  Json json = as_bytes ? Json(Json::value_t::discarded) : Json::parse(text, nullptr, false);
  if (json.is_discarded()) return mutate_bytes(text, rng);
  Json* node = &json;
  Json* parent = nullptr;
  std::string key;
  while (node->is_structured() && !node->empty() && !(parent != nullptr && rng.one_in(4))) {
    auto child = node->begin();
    // Elements of a long list are mostly alike: the last one is chosen more often.
    const std::size_t size = node->size();
    std::advance(child, static_cast<std::ptrdiff_t>(rng.one_in(3) ? size - 1 : rng.below(size)));
    key = node->is_object() ? child.key() : "";
    parent = node;
    node = &*child;
  }
  constexpr std::string_view kMark = "@slipway-mutation@";
  std::string raw;
  const bool in_object = parent != nullptr && parent->is_object();
  const std::string before = node->dump(-1, ' ', false, Json::error_handler_t::replace);
  switch (rng.below(10)) {
    case 0:  // missing
      if (in_object) parent->erase(key);
      else if (parent != nullptr) parent->erase(parent->size() - 1);
      raw = before;
      break;
    case 1:  // there twice
      if (in_object) raw = (rng.one_in(2) ? before : random_json_value(rng)) + "," + Json(key).dump() + ":" + before;
      else raw = before + "," + before;
      *node = kMark;
      break;
    case 2:  // another key
      if (in_object) {
        Json value = *node;
        parent->erase(key);
        (*parent)[std::vector<std::string>{"", key + "x", "type", "size", std::string(70, 'k')}[rng.below(5)]] = value;
      }
      break;
    case 3:  // a neighbour's value, of another type maybe
      if (parent != nullptr) {
        auto other = parent->begin();
        std::advance(other, static_cast<std::ptrdiff_t>(rng.below(parent->size())));
        const Json value = *other;
        *node = value;
      }
      break;
    case 4:  // an extreme or neighbouring number
      if (node->is_number_integer()) {
        const auto number = extreme_value(rng, static_cast<std::uint64_t>(node->get<std::int64_t>()), text.size());
        *node = rng.one_in(2) ? Json(number) : Json(static_cast<std::int64_t>(number));
        break;
      }
      [[fallthrough]];
    case 5:
      if (node->is_string()) {
        auto word = node->get<std::string>();
        mutate_bytes(word, rng);
        *node = word;
        break;
      }
      [[fallthrough]];
    default: raw = random_json_value(rng); *node = kMark;
  }
  const bool pretty = text.find('\n') != std::string::npos && text.find('\n') + 1 < text.size();
  text = json.dump(pretty ? 1 : -1, ' ', false, Json::error_handler_t::replace);
  const std::string quoted = "\"" + std::string(kMark) + "\"";
  if (const std::size_t at = text.find(quoted); at != std::string::npos) text.replace(at, quoted.size(), raw);
}

inline std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

/// The same for one line of JSON lines.
inline void mutate_json_line(std::string& text, FuzzRng& rng) {
  if (rng.one_in(6)) return mutate_bytes(text, rng);
  std::vector<std::string> lines = lines_of(text);
  if (lines.empty()) return mutate_bytes(text, rng);
  const std::size_t which = rng.below(lines.size());
  switch (rng.below(6)) {
    case 0: lines.erase(lines.begin() + static_cast<std::ptrdiff_t>(which)); break;
    case 1: lines.insert(lines.begin() + static_cast<std::ptrdiff_t>(rng.below(lines.size())), lines[which]); break;
    case 2: lines[which] = rng.one_in(2) ? "" : "   "; break;
    default: mutate_json(lines[which], rng);
  }
  text.clear();
  for (const std::string& line : lines) text += line + "\n";
}

/// One mutation of an INI file's lines.
inline void mutate_ini(std::string& text, FuzzRng& rng) {
  if (rng.one_in(8)) return mutate_bytes(text, rng);
  constexpr std::size_t kLong = 1 << 20;
  static const std::vector<std::string> kValues = {"",
                                                   "0",
                                                   "-1",
                                                   "1",
                                                   "2",
                                                   "1e999",
                                                   "-1e999",
                                                   "nan",
                                                   "inf",
                                                   "1e18",
                                                   "1e-300",
                                                   "2147483647",
                                                   "2147483648",
                                                   "-2147483648",
                                                   "9223372036854775807",
                                                   "9223372036854775808",
                                                   "-9223372036854775808",
                                                   "18446744073709551615",
                                                   "0x10",
                                                   "1.5",
                                                   "on",
                                                   "off",
                                                   "auto",
                                                   "preset",
                                                   "\xff\xfe",
                                                   "a\tb",
                                                   "1 # one",
                                                   "/dev/null",
                                                   "..",
                                                   "/",
                                                   "llama-1m",
                                                   "qwen2-7b",
                                                   "qwen3-1b",
                                                   "bf16",
                                                   "cuda",
                                                   "cuda:99",
                                                   "muon",
                                                   "wsd",
                                                   "stream",
                                                   "100000",
                                                   "1000000"};
  std::vector<std::string> lines = lines_of(text);
  if (lines.empty()) return mutate_bytes(text, rng);
  const std::size_t which = rng.below(lines.size());
  std::string& line = lines[which];
  const std::size_t equals = line.find('=');
  switch (rng.below(12)) {
    case 0: lines.erase(lines.begin() + static_cast<std::ptrdiff_t>(which)); break;
    case 1: lines.push_back(line); break;
    case 2: std::swap(line, lines[rng.below(lines.size())]); break;
    case 3:
      line =
          std::vector<std::string>{"[", "[]", "[train", "]", "=", "= 1", "x", "[train]", "\xef\xbb\xbf"}[rng.below(9)];
      break;
    case 4: mutate_bytes(line, rng); break;
    case 5:
      if (rng.one_in(4)) line = std::string(kLong, 'k') + " = 1";
      else if (rng.one_in(3)) line = "steps = " + std::string(kLong, '9');
      else line = std::string(300, 'k') + " = 1";
      break;
    case 6: line = std::string(1 + rng.below(200), '['); break;
    default: line = (equals == std::string::npos ? "steps" : line.substr(0, equals)) + "= " + rng.pick(kValues);
  }
  text.clear();
  for (const std::string& each : lines) text += each + "\n";
}

/// The known structure of a binary file: its integers, and its records, which can be removed or duplicated.
struct BinaryLayout {
  struct Record {
    std::size_t begin = 0, end = 0;
    Field count;  ///< of such records; width 0: none
  };
  std::vector<Field> fields;
  std::vector<Record> records;
};

/// One mutation of a binary file.
inline void mutate_structure(std::string& bytes, const BinaryLayout& layout, FuzzRng& rng) {
  if (layout.fields.empty() || rng.one_in(4)) return mutate_bytes(bytes, rng);
  if (!layout.records.empty() && rng.one_in(4)) {
    const BinaryLayout::Record record = rng.pick(layout.records);
    if (record.end > bytes.size()) return mutate_bytes(bytes, rng);
    const bool counted = record.count.width > 0 && !rng.one_in(3);
    const std::uint64_t count = get_field(bytes, record.count);
    if (rng.one_in(2)) {
      if (counted) set_field(bytes, record.count, count - 1);
      bytes.erase(record.begin, record.end - record.begin);
    } else {
      const std::size_t times = rng.one_in(8) ? 1000 : 1;
      if (counted) set_field(bytes, record.count, count + times);
      std::string more;
      for (std::size_t i = 0; i < times; ++i) more += bytes.substr(record.begin, record.end - record.begin);
      bytes.insert(record.end, more);
    }
    return;
  }
  // The first fields are the file's own counts, few among many.
  const Field field = rng.one_in(4) ? layout.fields[rng.below(std::min<std::size_t>(layout.fields.size(), 8))]
                                    : rng.pick(layout.fields);
  set_field(bytes, field, extreme_value(rng, get_field(bytes, field), bytes.size()));
}

}  // namespace slipway::test
