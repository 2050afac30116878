#include "src/data/row.hpp"

#include <algorithm>

#include "src/core/error.hpp"
#include "src/core/json_error.hpp"

namespace slipway {
namespace {

/// Sorted by name: lookup is fast even in rows with very many fields.
using Row = nlohmann::json;

/// The names of a row's fields, for a sentence.
std::string field_names(const Row& row) {
  constexpr std::size_t kMaxNames = 12, kMaxNameBytes = 40;
  if (row.empty()) return "none";
  std::string names;
  std::size_t count = 0;
  for (const auto& [name, value] : row.items()) {
    if (count++ == kMaxNames) return names + ", ...";
    names += (names.empty() ? "" : ", ") + name.substr(0, kMaxNameBytes);
  }
  return names;
}

RowError json_error(std::string_view text) {
  if (lines_end_in_cr(text)) return {"bad_json", kCrLinesSentence};
  const JsonError error = find_json_error(text);
  if (text.starts_with('{') && error.is_truncated)
    return {"bad_json", join("column ", error.column,
                             ": the object is not closed on its line, but JSON lines hold one object a line (jq -c . "
                             "FILE makes them)")};
  return {"bad_json", join("column ", error.column, ": ", error.reason, "; each row is one JSON object"), error.line};
}

}  // namespace

RowError read_row(std::string_view text, const std::string& text_field, Document& document) {
  if (find_invalid_utf8(text) != std::string_view::npos) return {"invalid_utf8", "the row is not UTF-8"};
  const Row row = Row::parse(text, /*callback=*/nullptr, /*allow_exceptions=*/false);
  if (row.is_discarded()) return json_error(text);
  if (!row.is_object()) return {"bad_json", join("the row is a JSON ", row.type_name(), ", not a JSON object")};
  if (!row.contains(text_field))
    return {"no_text", join("the row has no field '", text_field, "' (it has ", field_names(row),
                            "); name the one that holds the text with --data.text_field NAME")};
  struct Member {
    const char* name;
    std::string& value;
  };
  for (const Member& member : {Member{text_field.c_str(), document.text},
                               {"lane", document.lane},
                               {"license", document.license},
                               {"source", document.source},
                               {"origin_path", document.origin_path}}) {
    const auto found = row.find(member.name);
    if (found == row.end() || (found->is_null() && &member.value != &document.text)) continue;
    if (!found->is_string())
      return {"bad_field", join("the field '", member.name, "' is not a string, but ", found->type_name())};
    const auto& value = found->get_ref<const std::string&>();
    if (&member.value == &document.text) document.text = value;
    else if (std::ranges::any_of(value, [](unsigned char byte) { return byte < ' ' || byte == 0x7F; }))
      return {"bad_field", join("the field '", member.name, "' holds a control character, expected one line of text")};
    else if (!value.empty()) member.value = value;  // an empty one names none
  }
  if (document.text.empty()) return {"empty_text", join("the field '", text_field, "' is empty")};
  return {};
}

bool lines_end_in_cr(std::string_view text) {
  const std::size_t end = text.find("}\r");
  if (end == std::string_view::npos) return false;
  const std::size_t next = text.find_first_not_of(" \t\r", end + 1);
  return next != std::string_view::npos && text[next] == '{';
}

std::size_t JsonObjectScanner::scan(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char byte = text[i];
    if (in_string_) {
      if (escaped_) escaped_ = false;
      else if (byte == '\\') escaped_ = true;
      else if (byte == '"') in_string_ = false;
      continue;
    }
    if (byte == '"') in_string_ = true;
    else if (byte == '{' || byte == '[') ++depth_;
    else if ((byte == '}' || byte == ']') && --depth_ == 0) {
      found_ = true;
      return i + 1;
    }
  }
  return text.size();
}

}  // namespace slipway
