// Counts of irregular input by reason, with the first places.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "src/core/json.hpp"

namespace slipway {

/// Counts by reason, each with its first places ("a.jsonl:7": names below their inputs, equal on every host).
class InputTally {
 public:
  void add(const std::string& reason, const std::string& place);

  std::map<std::string, std::int64_t> counts() const;
  Json counts_json() const;  ///< {"blank_line": 2}
  Json places_json() const;  ///< {"blank_line": ["a.jsonl:2", "b.jsonl:1"]}, the first of each reason

 private:
  struct Entry {
    std::int64_t count = 0;
    std::vector<std::string> examples;
  };
  std::map<std::string, Entry> entries_;
};

/// One phrase for each reason of an InputTally's two JSON objects, in the right number:
/// "2 blank lines (blank_line): a.jsonl:2, b.jsonl:1".
std::vector<std::string> to_phrases(const Json& counts, const Json& places);

/// Log lines about what was left out (warnings) and what was noted while inputs were read.
void log_tallies(const std::string& command, const Json& skipped, const Json& skipped_first, const Json& notices,
                 const Json& noted_first);

}  // namespace slipway
