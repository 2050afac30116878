// Logs: aligned lines for people on standard error, one JSON object per event for programs.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "src/core/clock.hpp"
#include "src/core/json.hpp"

namespace slipway::log {

/// Which rank this process is. Only rank 0 prints info() lines; every rank prints warnings it alone can see.
void set_rank(int rank);

/// Every later event is appended to this file (`events/rank-<r>.jsonl`). Errors: Fault::kStorage when it cannot be
/// opened.
void open_events(const std::filesystem::path& path);

/// Logs what the program decided, and from what. Printed by rank 0.
void info(const std::string& message);

/// Logs a problem that does not stop the run. Printed by every rank that calls it, and recorded in warnings(): a run
/// repeats them in its last line and in status.json.
void warn(const std::string& message);

/// One fact for programs: {"event": name, "rank": r, "t_s": seconds since start, ...fields}.
void event(const std::string& name, const Json& fields);

/// A line that is redrawn in place, cut where the terminal ends, or printed whole. Rank 0 prints it.
void progress(const std::string& line, bool redraw);

/// Reports the progress of work that takes longer than two seconds: redrawn on a terminal, a line every five seconds
/// elsewhere.
///
///   log::Progress progress("verify");
///   progress(done, total);
class Progress {
 public:
  explicit Progress(std::string label) : label_(std::move(label)) {}
  /// `detail` is called only when the line is shown; it returns, for example, " | 12 MiB/s".
  void operator()(double completed, double total, const std::function<std::string(double elapsed_s)>& detail = {});

 private:
  std::string label_;
  double start_s_ = now_s();
  double next_s_ = start_s_ + 2;
};

/// Ends a redrawn progress line, so that the next output of others begins a new line.
void finish_line();

/// The distinct warnings of this process so far, in order; at most 100.
std::vector<std::string> warnings();

/// Silences info() while it lives: for commands with --json and for inner runs.
class QuietScope {
 public:
  QuietScope();
  ~QuietScope();
  QuietScope(const QuietScope&) = delete;
  QuietScope& operator=(const QuietScope&) = delete;
};

}  // namespace slipway::log
