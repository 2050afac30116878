// Logs: aligned lines for people on standard error, one JSON object per event for programs.
#pragma once

#include <filesystem>
#include <string>

#include "src/core/json.hpp"

namespace slipway::log {

/// Which rank this process is. Only rank 0 prints info() lines; every rank prints warnings it alone can see.
void set_rank(int rank);

/// Every later event is appended to this file (`events/rank-<r>.jsonl`). Errors: Fault::kStorage when it cannot be
/// opened.
void open_events(const std::filesystem::path& path);

/// Says what the program decided, and from what. Rank 0 prints it.
void info(const std::string& sentence);

/// Something is not as asked for, yet the run goes on. Counted; printed by every rank that says it.
void warn(const std::string& sentence);

/// One fact for programs: {"event": name, "rank": r, "t_s": seconds since start, ...fields}.
void event(const std::string& name, Json fields);

/// A line that is redrawn in place on a terminal, and printed whole elsewhere.
void progress(const std::string& line, bool redraw);

/// Moves off a redrawn progress line, so that what others print next begins a line of its own.
void finish_line();

int warnings();  ///< said so far by this process

/// Silences info() while it lives: for commands with --json and for inner runs.
class Quiet {
 public:
  Quiet();
  ~Quiet();
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;
};

}  // namespace slipway::log
