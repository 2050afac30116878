#include "src/core/config.hpp"

#include <algorithm>
#include <boost/program_options.hpp>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>
#include <sstream>

#include "src/core/file.hpp"

namespace slipway {
namespace po = boost::program_options;

namespace config_detail {
namespace {

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20; }

[[noreturn]] void refuse(const std::string& key, std::string text, std::string_view wanted) {
  std::replace_if(text.begin(), text.end(), is_control, '?');  // an error is one line
  throw Error(Fault::kConfig, join(key, " is '", text, "', but ", wanted, " is expected"));
}

template <class T>
void set_number(const std::string& key, const std::string& text, T& value, std::string_view wanted) {
  T parsed{};
  const char* end = text.data() + text.size();
  const auto [stop, code] = std::from_chars(text.data(), end, parsed);
  if (code != std::errc() || stop != end) refuse(key, text, wanted);
  value = parsed;
}

}  // namespace

void set(const std::string& key, const std::string& text, bool& value) {
  if (text == "on" || text == "true" || text == "1") value = true;
  else if (text == "off" || text == "false" || text == "0") value = false;
  else refuse(key, text, "on or off");
}
void set(const std::string& key, const std::string& text, int& value) {
  set_number(key, text, value, "a whole number");
}
void set(const std::string& key, const std::string& text, std::int64_t& value) {
  set_number(key, text, value, "a whole number");
}
void set(const std::string& key, const std::string& text, std::uint64_t& value) {
  set_number(key, text, value, "a whole number, 0 or more,");
}
void set(const std::string& key, const std::string& text, double& value) {
  double parsed = 0;
  set_number(key, text, parsed, "a number");
  if (!std::isfinite(parsed)) refuse(key, text, "a finite number");
  value = parsed;
}
void set(const std::string& key, const std::string& text, std::string& value) {
  const bool in_file = key.find('.') != std::string::npos;  // config.ini keeps it: one line, blanks at the ends cut off
  const bool cut = !text.empty() && (text.front() == ' ' || text.back() == ' ');
  if (in_file && (cut || std::any_of(text.begin(), text.end(), is_control)))
    refuse(key, text, "one line without blanks at its ends");
  value = text;
}

std::string get(bool value) { return value ? "on" : "off"; }
std::string get(int value) { return std::to_string(value); }
std::string get(std::int64_t value) { return std::to_string(value); }
std::string get(std::uint64_t value) { return std::to_string(value); }
std::string get(double value) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, value).ptr};  // the shortest text that reads back equal
}
std::string get(const std::string& value) { return value; }

}  // namespace config_detail

namespace {

// Boost's INI reader cuts a value at '#'. A '#' that does not start its line is carried past it as this byte.
constexpr char kHash = '\x01';

std::string protect_hashes(const std::string& text) {
  std::string result;
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";  // some editors begin a file with it
  std::istringstream lines(text.starts_with(kByteOrderMark) ? text.substr(kByteOrderMark.size()) : text);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t first = line.find_first_not_of(" \t");
    const bool is_value = first != std::string::npos && line[first] != '#' && line[first] != '[';
    if (is_value) std::replace(line.begin(), line.end(), '#', kHash);
    result += line + "\n";
  }
  return result;
}

std::string restore_hashes(std::string value) {
  std::replace(value.begin(), value.end(), kHash, '#');
  return value;
}

bool has_section(const std::string& key) { return key.find('.') != std::string::npos; }
std::string section_of(const std::string& key) { return key.substr(0, key.find('.')); }

}  // namespace

Field& Fields::find(std::string_view key, const std::string& seen_as) {
  if (const auto named = aliases_.find(std::string(key)); named != aliases_.end()) key = named->second;
  const auto found = std::find_if(fields_.begin(), fields_.end(), [&](const Field& field) { return field.key == key; });
  if (found != fields_.end()) return *found;
  std::vector<std::string> keys;
  for (const Field& field : fields_) keys.push_back(field.key);
  for (const auto& [option, meant] : aliases_) keys.push_back(option);
  const std::string near = nearest(key, keys);
  throw Error(Fault::kConfig,
              join(seen_as, " is not a key of this command",
                   near.empty() ? std::string("; --help lists them") : join("; did you mean ", near, "?")));
}

void Fields::read_file(const std::filesystem::path& path) {
  std::istringstream text(protect_hashes(slipway::read_file(path, Fault::kConfig)));
  ++sources_;
  try {
    const po::options_description none;
    for (const auto& option : po::parse_config_file(text, none, /*allow_unregistered=*/true).options) {
      Field& field = find(option.string_key, option.string_key);
      field.set({restore_hashes(option.value.empty() ? "" : option.value.front())});
      field.given_in = sources_;
    }
  } catch (const Error& error) {
    throw Error(Fault::kConfig, join(path.string(), ": ", error.what()));
  } catch (const po::error& reason) {
    throw Error(Fault::kConfig,
                join(path.string(), ": ", reason.what(), "; write [section] lines and key = value lines"));
  }
}

void Fields::read_flags(const std::vector<std::string>& flags) {
  ++sources_;
  po::options_description known;
  for (const auto& [option, key] : aliases_) known.add_options()(option.c_str(), po::value<std::string>());
  for (const Field& field : fields_) {
    if (field.is_flag) known.add_options()(field.key.c_str(), "");
    else if (field.is_list) known.add_options()(field.key.c_str(), po::value<std::vector<std::string>>()->multitoken());
    else known.add_options()(field.key.c_str(), po::value<std::string>());
  }
  namespace style = po::command_line_style;
  constexpr int kStyle = style::allow_long | style::long_allow_adjacent | style::long_allow_next;
  std::vector<std::string> words;
  for (const std::string& flag : flags) {  // Boost takes --key=value, but not an empty value behind the sign
    const bool empty_value = flag.size() > 3 && flag.starts_with("--") && flag.find('=') == flag.size() - 1;
    words.push_back(empty_value ? flag.substr(0, flag.size() - 1) : flag);
    if (empty_value) words.emplace_back();
  }
  try {
    for (const auto& option : po::command_line_parser(words).options(known).style(kStyle).run().options) {
      if (option.position_key >= 0)
        throw Error(Fault::kConfig, join("'", option.value.front(),
                                         "' stands alone; expected --key value (a target stands before the options)"));
      Field& field = find(option.string_key, "--" + option.string_key);
      field.set(option.value);
      field.given_in = sources_;
    }
  } catch (const po::unknown_option& unknown) {
    std::string key = unknown.get_option_name();
    key.erase(0, key.find_first_not_of('-'));
    find(key, "--" + key);
  } catch (const po::error& reason) {
    throw Error(Fault::kConfig, reason.what());
  }
}

void Fields::keep_latest(const std::vector<std::string>& keys) {
  int latest = 0;
  for (const std::string& key : keys) latest = std::max(latest, at(key).given_in);
  for (const std::string& key : keys) {
    Field& field = find(key, key);
    if (field.given() && field.given_in < latest) unset(key);
  }
}

void Fields::set(const std::string& key, const std::string& value) {
  Field& field = find(key, key);
  field.set({value});
  field.given_in = sources_;
}

bool Fields::has(std::string_view key) const {
  return std::any_of(fields_.begin(), fields_.end(), [&](const Field& field) { return field.key == key; });
}

const Field& Fields::at(std::string_view key) const {
  const auto found = std::find_if(fields_.begin(), fields_.end(), [&](const Field& field) { return field.key == key; });
  require(found != fields_.end(), join("Fields::at: no key ", key));
  return *found;
}

bool Fields::given(std::string_view key) const { return has(key) && at(key).given(); }

void Fields::read_values(const Values& values, const std::string& from) {
  ++sources_;
  try {
    for (const auto& [key, value] : values) set(key, value);
  } catch (const Error& error) {
    throw Error(Fault::kConfig, join(from, ": ", error.what()));
  }
}

void Fields::unset(const std::string& key) {
  Field& field = find(key, key);
  require(!field.is_list, join("Fields::unset: ", key, " is a list"));
  field.set({field.fallback});
  field.given_in = 0;
}

void Fields::unset_all() {
  for (Field& field : fields_)
    if (field.given()) unset(field.key);
}

Values Fields::values() const {
  Values values;
  for (const Field& field : fields_)
    if (has_section(field.key)) values[field.key] = field.get();
  return values;
}

Values Fields::given_values() const {
  Values values = this->values();
  for (const Field& field : fields_)
    if (!field.given()) values.erase(field.key);
  return values;
}

std::string Fields::to_ini() const { return to_ini(values()); }

std::string Fields::to_ini(const Values& values) const {
  std::string text, section;
  for (const Field& field : fields_) {
    const auto value = values.find(field.key);
    if (value == values.end()) continue;
    if (section_of(field.key) != section) {
      section = section_of(field.key);
      text += (text.empty() ? "[" : "\n[") + section + "]\n";
    }
    text += field.key.substr(section.size() + 1) + " = " + value->second + "\n";
  }
  return text;
}

std::string Fields::to_help() const {
  std::string text;
  for (const auto& [option, key] : aliases_) {
    std::string flag = "  --" + option + " VALUE";
    flag.resize(std::max<std::size_t>(flag.size() + 2, 34), ' ');
    text += flag + "short for --" + key + "\n";
  }
  for (const Field& field : fields_) {
    std::string flag = "  --" + field.key + (field.is_flag ? "" : field.is_list ? " VALUE..." : " VALUE");
    flag.resize(std::max<std::size_t>(flag.size() + 2, 34), ' ');
    text += flag + field.help;
    if (!field.is_flag && !field.fallback.empty()) text += " [" + field.fallback + "]";
    text += "\n";
  }
  return text;
}

std::string nearest(std::string_view word, const std::vector<std::string>& known) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, word.size() / 3) + 1;  // farther words are no help
  for (const std::string& candidate : known) {
    std::vector<std::size_t> row(candidate.size() + 1);  // Levenshtein distance, one row at a time
    std::iota(row.begin(), row.end(), 0);
    for (std::size_t i = 0; i < word.size(); ++i) {
      std::size_t diagonal = row[0]++;
      for (std::size_t j = 0; j < candidate.size(); ++j) {
        const std::size_t replaced = diagonal + (word[i] == candidate[j] ? 0 : 1);
        diagonal = row[j + 1];
        row[j + 1] = std::min({row[j + 1] + 1, row[j] + 1, replaced});
      }
    }
    if (row.back() < best_distance) best_distance = row.back(), best = candidate;
  }
  return best;
}

}  // namespace slipway
