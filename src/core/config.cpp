#include "src/core/config.hpp"

#include <algorithm>
#include <boost/program_options.hpp>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>
#include <sstream>

#include "src/core/file.hpp"
#include "src/core/synonyms.hpp"
#include "src/core/words.hpp"

namespace slipway {
namespace po = boost::program_options;

namespace config_detail {
namespace {

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20; }

/// Text for an error message: shortened, control characters replaced.
std::string shortened(std::string text) {
  constexpr std::size_t kMax = 60;
  if (text.size() > kMax) text = text.substr(0, kMax) + "...";
  std::replace_if(text.begin(), text.end(), is_control, '?');
  return text;
}

[[noreturn]] void throw_invalid(const std::string& key, const std::string& text, std::string_view wanted) {
  throw Error(Fault::kConfig, join(key, " is '", shortened(text), "', but ", wanted, " is expected"));
}

template <class T>
void set_number(const std::string& key, const std::string& text, T& value, std::string_view wanted) {
  T parsed{};
  const char* end = text.data() + text.size();
  const auto [stop, code] = std::from_chars(text.data(), end, parsed);
  if (code != std::errc() || stop != end) throw_invalid(key, text, wanted);
  value = parsed;
}

}  // namespace

void set(const std::string& key, const std::string& text, bool& value) {
  if (text == "on" || text == "true" || text == "1") value = true;
  else if (text == "off" || text == "false" || text == "0") value = false;
  else throw_invalid(key, text, "on or off");
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
  if (!std::isfinite(parsed)) throw_invalid(key, text, "a finite number");
  value = parsed;
}
void set(const std::string& key, const std::string& text, std::string& value) {
  const bool in_file = key.find('.') != std::string::npos;  // config.ini keeps it: one line, blanks at the ends cut off
  const bool cut = !text.empty() && (text.front() == ' ' || text.back() == ' ');
  if (in_file && (cut || std::any_of(text.begin(), text.end(), is_control)))
    throw_invalid(key, text, "one line without blanks at its ends");
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

bool has_section(const std::string& key) { return key.find('.') != std::string::npos; }
std::string section_of(const std::string& key) { return key.substr(0, key.find('.')); }

std::string trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n\v\f";
  const std::size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return std::string(text.substr(first, text.find_last_not_of(kBlanks) - first + 1));
}

/// A line that cannot be parsed, quoted for a message; it may be from a binary file.
std::string in_quotes(const std::string& line) { return join("'", config_detail::shortened(line), "'"); }

constexpr char kCommentsAlone[] = "a comment stands on a line of its own, beginning with #";

}  // namespace

std::string comment_hint(std::string_view value) {
  for (const char* sign : {" #", "\t#", " ;", "\t;"})
    if (value.find(sign) != std::string_view::npos) return join("; ", kCommentsAlone);
  return value.starts_with('#') ? join("; ", kCommentsAlone) : "";
}

bool Field::names_path() const {
  std::istringstream alternatives(placeholder);
  for (std::string alternative; std::getline(alternatives, alternative, '|');)
    for (const char* path : {"FILE", "DIR", "PATH", "RUN", "MODEL", "PATTERN"})
      if (alternative.starts_with(path)) return true;
  return false;
}

std::vector<std::string> Fields::options_of(const Field& field) const {
  std::vector<std::string> options;
  for (const auto& [option, key] : aliases_)
    if (key == field.key) options.push_back(option);
  options.push_back(field.key);
  return options;
}

std::string Fields::suggestion(std::string_view key, std::string_view dashes) const {
  const auto did_you_mean = [&](const std::vector<std::string>& candidates, const char* note) {
    return join("; did you mean ", join_or(candidates, dashes), *note == '\0' ? "" : " (", note,
                *note == '\0' ? "" : ")", "?");
  };
  const Synonym* synonym = find_synonym(key);
  for (const Field& field : fields_)  // "train.step": a prefix of a key comes before the synonyms
    if (key.find('.') != std::string_view::npos && field.visibility != HelpVisibility::kNever &&
        field.key.starts_with(key))
      return did_you_mean({field.key}, "");
  if (synonym != nullptr)
    for (const std::string& our_key : split_words(synonym->keys))
      if (has(our_key)) return did_you_mean({our_key}, synonym->note);
  const std::string_view leaf = key.substr(key.find_last_of('.') + 1);  // npos + 1 is 0
  std::vector<std::string> candidates, leaf_names;
  if (!dashes.empty()) candidates = {"config", "help"};  // of every command
  const auto leaf_name = [](const std::string& name) { return name.substr(name.find_last_of('.') + 1); };
  for (const Field& field : fields_) {
    if (field.visibility == HelpVisibility::kNever) continue;
    leaf_names.push_back(leaf_name(field.key));
    for (const std::string& option : options_of(field)) candidates.push_back(option);
  }
  const auto keys_with_leaf = [&](std::string_view wanted_leaf) {
    std::vector<std::string> keys;
    for (const Field& field : fields_)
      if (field.visibility != HelpVisibility::kNever && leaf_name(field.key) == wanted_leaf) keys.push_back(field.key);
    return keys;
  };
  if (const auto same_leaf = keys_with_leaf(leaf); !same_leaf.empty()) return did_you_mean(same_leaf, "");
  if (synonym != nullptr && *synonym->fallback_message != '\0') return join(": ", synonym->fallback_message);
  if (const std::string closest = nearest(key, candidates); !closest.empty()) return did_you_mean({closest}, "");
  constexpr std::size_t kMin = 4;  // shorter words are near too many keys
  if (const std::string closest = leaf.size() < kMin ? "" : nearest(leaf, leaf_names); !closest.empty())
    return did_you_mean(keys_with_leaf(closest), "");
  return "; --help lists them";
}

Field& Fields::find(std::string_view key, const std::string& quoted_key) {
  if (const auto alias = aliases_.find(std::string(key)); alias != aliases_.end()) key = alias->second;
  const auto it = std::find_if(fields_.begin(), fields_.end(), [&](const Field& field) { return field.key == key; });
  if (it != fields_.end()) return *it;
  throw Error(Fault::kConfig, join(config_detail::shortened(quoted_key), " is not a key of this command",
                                   suggestion(key, quoted_key.starts_with("--") ? "--" : "")));
}

void Fields::read_file(const std::filesystem::path& path) {
  std::string text = slipway::read_file(path, Fault::kConfig);
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";  // some editors begin a file with it
  if (text.starts_with(kByteOrderMark)) text.erase(0, kByteOrderMark.size());
  ++sources_;
  std::istringstream lines(text);
  std::string section;
  FileLocation location{path};
  for (std::string line; std::getline(lines, line);) {
    ++location.line;
    line = trimmed(line);
    if (line.empty() || line.front() == '#' || line.front() == ';') continue;
    try {
      if (const std::size_t close = line.find(']'); line.front() == '[' && close != std::string::npos) {
        const std::string rest = trimmed(std::string_view(line).substr(close + 1));
        if (rest.empty() || rest.front() == '#' || rest.front() == ';') {
          section = trimmed(std::string_view(line).substr(1, close - 1)) + ".";
          continue;
        }
      }
      const std::size_t equals = line.find('=');
      if (line.front() == '[' || equals == std::string::npos || equals == 0)
        throw Error(Fault::kConfig, join(in_quotes(line), " is no [section] line and no key = value line",
                                         line.front() == '[' ? comment_hint(line) : ""));
      const std::string key = section + trimmed(line.substr(0, equals)), value = trimmed(line.substr(equals + 1));
      Field& field = find(key, key);
      const std::string hint = comment_hint(value);
      if (!hint.empty() && field.key.find('.') != std::string::npos && !field.names_path())
        throw Error(Fault::kConfig, join(key, " is ", in_quotes(value), hint));
      field.set({value});
      field.source_index = sources_;
    } catch (const Error& error) {
      throw Error(Fault::kConfig, join(location, ": ", error.what()));
    }
  }
}

void Fields::read_flags(const std::vector<std::string>& flags) {
  ++sources_;
  po::options_description descriptions;
  for (const auto& [option, key] : aliases_) descriptions.add_options()(option.c_str(), po::value<std::string>());
  for (const Field& field : fields_) {
    if (field.is_flag) descriptions.add_options()(field.key.c_str(), "");
    else if (field.is_list)
      descriptions.add_options()(field.key.c_str(), po::value<std::vector<std::string>>()->multitoken());
    else descriptions.add_options()(field.key.c_str(), po::value<std::string>());
  }
  namespace style = po::command_line_style;
  constexpr int kStyle = style::allow_long | style::long_allow_adjacent | style::long_allow_next;
  std::vector<std::string> argv;
  for (const std::string& flag : flags) {  // Boost takes --key=value, but not an empty value behind the sign
    const bool empty_value = flag.size() > 3 && flag.starts_with("--") && flag.find('=') == flag.size() - 1;
    argv.push_back(empty_value ? flag.substr(0, flag.size() - 1) : flag);
    if (empty_value) argv.emplace_back();
  }
  try {
    for (const auto& option : po::command_line_parser(argv).options(descriptions).style(kStyle).run().options) {
      if (option.position_key >= 0)
        throw Error(Fault::kConfig,
                    join("'", option.value.front(), "' stands alone; expected --key value (",
                         option.value.front().starts_with('-') ? "options begin with two dashes; --help lists them"
                                                               : "a target stands before the options",
                         ")"));
      Field& field = find(option.string_key, "--" + option.string_key);
      if (field.names_path() && !field.is_list && field.source_index == sources_)
        throw Error(Fault::kConfig, join("--", option.string_key, " is given twice, as '", field.get(), "' and as '",
                                         option.value.back(), "', and takes one value: leave one of them out"));
      field.set(option.value);
      field.source_index = sources_;
    }
  } catch (const po::unknown_option& error) {
    std::string key = error.get_option_name();
    key.erase(0, key.find_first_not_of('-'));
    find(key, "--" + key);
  } catch (const po::error& error) {
    throw Error(Fault::kConfig, error.what());
  }
}

void Fields::unset_overridden(const std::vector<std::string>& keys) {
  int latest = 0;
  for (const std::string& key : keys) latest = std::max(latest, at(key).source_index);
  for (const std::string& key : keys) {
    Field& field = find(key, key);
    if (field.is_set() && field.source_index < latest) unset(key);
  }
}

void Fields::set(const std::string& key, const std::string& value) {
  Field& field = find(key, key);
  field.set({value});
  field.source_index = sources_;
}

bool Fields::has(std::string_view key) const {
  return std::any_of(fields_.begin(), fields_.end(), [&](const Field& field) { return field.key == key; });
}

const Field& Fields::at(std::string_view key) const {
  const auto it = std::find_if(fields_.begin(), fields_.end(), [&](const Field& field) { return field.key == key; });
  require(it != fields_.end(), join("Fields::at: no key ", key));
  return *it;
}

bool Fields::is_set(std::string_view key) const { return has(key) && at(key).is_set(); }

void Fields::read_values(const Values& values, const std::string& source_description) {
  ++sources_;
  try {
    for (const auto& [key, value] : values) set(key, value);
  } catch (const Error& error) {
    throw Error(Fault::kConfig, join(source_description, ": ", error.what()));
  }
}

void Fields::unset(const std::string& key) {
  Field& field = find(key, key);
  require(!field.is_list, join("Fields::unset: ", key, " is a list"));
  field.set({field.default_value});
  field.source_index = 0;
}

void Fields::unset_all() {
  for (Field& field : fields_)
    if (field.is_set()) unset(field.key);
}

Values Fields::values() const {
  Values values;
  for (const Field& field : fields_)
    if (has_section(field.key)) values[field.key] = field.get();
  return values;
}

Values Fields::explicit_values() const {
  Values values = this->values();
  for (const Field& field : fields_)
    if (!field.is_set()) values.erase(field.key);
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

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, word.size() / 3) + 1;  // words farther away are not suggested
  for (const std::string& candidate : candidates) {
    const std::size_t longer_size = std::max(word.size(), candidate.size()),
                      shorter_size = std::min(word.size(), candidate.size());
    if (longer_size - shorter_size >= best_distance) continue;  // keeps a word of megabytes cheap
    std::vector<std::size_t> row(candidate.size() + 1);         // Levenshtein distance, one row at a time
    std::iota(row.begin(), row.end(), 0);
    for (std::size_t i = 0; i < word.size(); ++i) {
      std::size_t diagonal = row[0]++;
      for (std::size_t j = 0; j < candidate.size(); ++j) {
        const std::size_t substitution = diagonal + (word[i] == candidate[j] ? 0 : 1);
        diagonal = row[j + 1];
        row[j + 1] = std::min({row[j + 1] + 1, row[j] + 1, substitution});
      }
    }
    if (row.back() < best_distance) best_distance = row.back(), best = candidate;
  }
  return best;
}

}  // namespace slipway
