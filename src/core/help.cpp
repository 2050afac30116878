// The options of a command as text, for --help and docs/reference.md.
#include <algorithm>
#include <cctype>
#include <map>
#include <sstream>

#include "src/core/config.hpp"

namespace slipway {
namespace {

constexpr std::size_t kMeaningColumn = 36, kLineColumns = 110;

/// `--flag VALUE` and its meaning, wrapped at blanks in an aligned column.
std::string entry(const std::string& flag, const std::string& meaning) {
  const std::string next_line = "\n" + std::string(kMeaningColumn, ' ');
  std::string text = "  " + flag;
  if (text.size() + 2 > kMeaningColumn) text += next_line;
  else text.resize(kMeaningColumn, ' ');
  std::size_t column = kMeaningColumn;
  std::istringstream words(meaning);
  for (std::string word; words >> word; column += word.size() + 1) {
    if (column > kMeaningColumn && column + word.size() > kLineColumns) {
      text += next_line;
      column = kMeaningColumn;
    }
    if (column > kMeaningColumn) text += ' ';
    text += word;
  }
  return text + "\n";
}

/// "Model" of "model.width"; "Options" of "run".
std::string heading_of(const std::string& key) {
  const std::size_t dot = key.find('.');
  if (dot == std::string::npos) return "Options";
  std::string word = key.substr(0, dot);
  word[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(word[0])));
  return word;
}

}  // namespace

std::string Fields::to_help(bool show_all) const {
  const auto is_option = [&](const Field& field) {  // under one of its names, such as --data for data.path
    return options_of(field).front().find('.') == std::string::npos;
  };
  const auto is_shown = [&](const Field& field) {
    if (field.visibility == HelpVisibility::kNever) return false;
    return show_all || field.visibility == HelpVisibility::kFirst ||
           (field.visibility == HelpVisibility::kAuto && is_option(field));
  };
  std::vector<std::string> headings;  // in the order in which they come, options first
  std::map<std::string, std::string> sections;
  std::size_t num_hidden = 0;
  bool has_keys = false;
  for (const Field& field : fields_) {
    has_keys = has_keys || field.key.find('.') != std::string::npos;
    if (!is_shown(field)) {
      num_hidden += field.visibility == HelpVisibility::kNever ? 0 : 1;
      continue;
    }
    const std::string heading = show_all ? heading_of(field.key) : is_option(field) ? "Options" : "Keys";
    if (std::find(headings.begin(), headings.end(), heading) == headings.end())
      headings.insert(heading == "Options" ? headings.begin() : headings.end(), heading);
    std::string flag;
    for (const std::string& option : options_of(field)) flag += (flag.empty() ? "--" : ", --") + option;
    if (!field.is_flag) flag += " " + field.placeholder + (field.is_list ? "..." : "");
    const bool has_default = !field.is_flag && !field.default_value.empty();
    sections[heading] += entry(flag, field.help + (has_default ? " (default: " + field.default_value + ")" : ""));
  }
  if (has_keys) {
    if (std::find(headings.begin(), headings.end(), "Options") == headings.end())
      headings.insert(headings.begin(), "Options");
    sections["Options"] += entry("--config FILE...",
                                 "INI files with keys that have a section ([train], then steps = 2000), read in order "
                                 "before the options");
  }
  sections["Options"] +=
      entry("-h, --help [all]",
            num_hidden > 0 ? join("this help; all: the other ", num_hidden, " keys too") : std::string("this help"));
  if (headings.empty()) headings.emplace_back("Options");
  std::string text;
  for (const std::string& heading : headings) text += join(text.empty() ? "" : "\n", heading, ":\n", sections[heading]);
  return text;
}

}  // namespace slipway
