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

/// Says what the program decided, and from what. Rank 0 prints it.
void info(const std::string& message);

/// Something is not as asked for, yet the run goes on. Printed by every rank that says it, and kept in warnings(): a
/// run repeats it in its last line and in status.json.
void warn(const std::string& message);

/// One fact for programs: {"event": name, "rank": r, "t_s": seconds since start, ...fields}.
void event(const std::string& name, const Json& fields);

/// A line that is redrawn in place, cut where the terminal ends, or printed whole. Rank 0 prints it.
void progress(const std::string& line, bool redraw);

/// Says how far a piece of work is, once it has taken two seconds: redrawn on a terminal, a line every five seconds
/// elsewhere.
///
///   log::Progress progress("verify");
///   progress(done, total);
class Progress {
 public:
  explicit Progress(std::string what) : what_(std::move(what)) {}
  /// `detail` is made only when it is shown: " | 12 MiB/s".
  void operator()(double done, double total, const std::function<std::string(double elapsed_s)>& detail = {});

 private:
  std::string what_;
  double start_s_ = now_s();
  double next_s_ = start_s_ + 2;
};

/// Moves off a redrawn progress line, so that what others print next begins a line of its own.
void finish_line();

/// The sentences of warn() so far in this process, in order, each once; 100 at most.
std::vector<std::string> warnings();

/// Silences info() while it lives: for commands with --json and for inner runs.
class Quiet {
 public:
  Quiet();
  ~Quiet();
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;
};

}  // namespace slipway::log
