#include "src/data/input_tally.hpp"

#include <algorithm>
#include <string_view>

#include "src/core/log.hpp"

namespace slipway {
namespace {

constexpr std::size_t kMaxExamples = 5;  // of each reason: enough to look at, and one line

struct Phrase {
  std::string_view reason, singular, plural;
};

constexpr Phrase kPhrases[] = {
    {"empty_file", "empty file", "empty files"},
    {"blank_line", "blank line", "blank lines"},
    {"bad_json", "row that is not a JSON object", "rows that are not JSON objects"},
    {"no_text", "row without the text field", "rows without the text field"},
    {"empty_text", "row with an empty text", "rows with an empty text"},
    {"bad_field", "row with a field that is no line of text", "rows with a field that is no line of text"},
    {"long_line", "row longer than data.max_line_bytes", "rows longer than data.max_line_bytes"},
    {"invalid_utf8", "text that is not UTF-8", "texts that are not UTF-8"},
    {"nul_byte", "text with a NUL byte", "texts with NUL bytes"},
    {"unknown_lane", "row of an unknown lane", "rows of unknown lanes"},
    {"unreadable", "file or folder that cannot be read to its end",
     "files or folders that cannot be read to their end"},
    {"not_a_file", "pipe, socket or device", "pipes, sockets or devices"},
    {"other_format", "file of a format that is not read", "files of formats that are not read"},
    {"own_output", "file or folder that slipway wrote, not taken for text",
     "files or folders that slipway wrote, not taken for text"},
    {"linked_folder", "link to a folder, not followed", "links to folders, not followed"},
    {"same_file", "file given twice, read once", "files given twice, read once"},
    {"byte_order_mark", "byte order mark left out", "byte order marks left out"},
    {"gzip_padding", "gzip file followed by zeros, which are ignored",
     "gzip files followed by zeros, which are ignored"},
    {"packed_by_content", "file unpacked because of its content, whatever its name",
     "files unpacked because of their content, whatever their names"},
    {"rows_by_content", "file read as JSON lines because of its content",
     "files read as JSON lines because of their content"},
    {"array_by_content", "file read as a JSON array of rows because of its content",
     "files read as JSON arrays of rows because of their content"},
    {"json_as_text", "JSON file without rows, read as plain text", "JSON files without rows, read as plain text"},
    {"csv_as_text",
     "CSV or TSV file read as plain text, header and quotes included; to read its rows, convert them to JSON lines",
     "CSV or TSV files read as plain text, header and quotes included; to read their rows, convert them to JSON lines"},
};

}  // namespace

void InputTally::add(const std::string& reason, const std::string& place) {
  Entry& entry = entries_[reason];
  ++entry.count;
  if (entry.examples.size() < kMaxExamples) entry.examples.push_back(place);
}

std::map<std::string, std::int64_t> InputTally::counts() const {
  std::map<std::string, std::int64_t> counts;
  for (const auto& [reason, entry] : entries_) counts[reason] = entry.count;
  return counts;
}

Json InputTally::counts_json() const {
  Json json = Json::object();
  for (const auto& [reason, entry] : entries_) json[reason] = entry.count;
  return json;
}

Json InputTally::places_json() const {
  Json json = Json::object();
  for (const auto& [reason, entry] : entries_) json[reason] = entry.examples;
  return json;
}

std::vector<std::string> to_phrases(const Json& counts, const Json& places) {
  std::vector<std::string> phrases;
  for (const auto& [reason, value] : counts.items()) {
    const auto count = value.get<std::int64_t>();
    const auto words = std::ranges::find(kPhrases, reason, &Phrase::reason);
    std::string phrase = join(count, " ");
    if (words != std::end(kPhrases)) phrase += join(count == 1 ? words->singular : words->plural, " (", reason, ")");
    else phrase += reason;
    if (const auto found = places.find(reason); found != places.end() && !found->empty()) {
      std::string list;
      for (const Json& place : *found) list += (list.empty() ? ": " : ", ") + place.get<std::string>();
      phrase += list;
      if (count > static_cast<std::int64_t>(found->size())) phrase += ", ...";
    }
    phrases.push_back(std::move(phrase));
  }
  return phrases;
}

void log_tallies(const std::string& command, const Json& skipped, const Json& skipped_first, const Json& notices,
                 const Json& noted_first) {
  for (const std::string& phrase : to_phrases(notices, noted_first)) log::info(join(command, ": ", phrase));
  for (const std::string& phrase : to_phrases(skipped, skipped_first))
    log::warn(join(command, ": left out, as data.on_bad = skip says: ", phrase));
}

}  // namespace slipway
