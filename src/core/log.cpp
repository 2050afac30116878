#include "src/core/log.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <mutex>

#include "src/core/clock.hpp"
#include "src/core/terminal.hpp"

namespace slipway::log {
namespace {

struct State {
  std::mutex mutex;
  int rank = 0;
  int quiet_depth = 0;
  std::vector<std::string> warnings;
  bool in_progress_line = false;  // the cursor is at the end of a progress line
  std::ofstream events;
};

State& state() {
  static State* const singleton = new State;  // never destroyed: a thread that outlives main may log
  return *singleton;
}

void print(State& log, const std::string& line) {
  if (log.in_progress_line) std::fputs("\n", stderr);
  log.in_progress_line = false;
  std::fputs((printable(line) + "\n").c_str(), stderr);
}

/// Prints a warning and records it; each sentence only once.
void print_warning(State& log, const std::string& message) {
  constexpr std::size_t kMaxWarnings = 100;  // bounds the memory when a warning's text changes from step to step
  print(log, "slipway: warning: " + message);
  if (log.warnings.size() < kMaxWarnings && std::ranges::find(log.warnings, message) == log.warnings.end())
    log.warnings.push_back(message);
}

}  // namespace

void set_rank(int rank) { state().rank = rank; }

void open_events(const std::filesystem::path& path) {
  State& log = state();
  const std::lock_guard lock(log.mutex);
  std::error_code code;
  std::filesystem::create_directories(path.parent_path(), code);
  errno = 0;
  log.events = {};  // a second call replaces the first file
  if (!code) log.events.open(path, std::ios::app);
  if (code || !log.events.is_open())
    throw Error(Fault::kStorage,
                join("cannot open the event file ", path.string(), ": ", code ? code.message() : errno_message()));
}

void info(const std::string& message) {
  State& log = state();
  {
    const std::lock_guard lock(log.mutex);
    if (log.rank == 0 && log.quiet_depth == 0) print(log, message);
  }
  event("info", {{"text", message}});
}

void warn(const std::string& message) {
  State& log = state();
  {
    const std::lock_guard lock(log.mutex);
    print_warning(log, message);
  }
  event("warning", {{"text", message}});
}

void event(const std::string& name, const Json& fields) {
  State& log = state();
  const std::lock_guard lock(log.mutex);
  if (!log.events.is_open()) return;
  Json line = {{"event", name}, {"rank", log.rank}, {"t_s", seconds_since_start()}};
  if (!fields.is_null()) line.update(fields);  // {} is null to nlohmann
  log.events << to_line(line) << std::endl;    // flushed: the file must be readable while the run continues
  if (log.events.good()) return;
  log.events.close();  // warn once and go on: the run does not depend on its event log
  print_warning(log, join("cannot write events (", errno_message(), "); this rank logs no more of them"));
}

void progress(const std::string& line, bool redraw) {
  State& log = state();
  const std::lock_guard lock(log.mutex);
  if (log.quiet_depth > 0 || log.rank != 0) return;
  if (!redraw) return print(log, line);
  std::fputs(join("\r\033[K", clip_to_columns(printable(line), redrawn_columns())).c_str(), stderr);
  std::fflush(stderr);
  log.in_progress_line = true;
}

void Progress::operator()(double completed, double total, const std::function<std::string(double)>& detail) {
  const double now = now_s();
  if (now < next_s_) return;
  const bool redraw = can_redraw();
  next_s_ = now + (redraw ? 0.2 : 5.0);
  const double fraction = total > 0 ? std::min(1.0, completed / total) : 1.0, elapsed_s = now - start_s_;
  progress(join(label_, ": ", static_cast<int>(100 * fraction), " %", detail ? detail(elapsed_s) : "",
                fraction > 0 ? join(" | ETA ", human_time(elapsed_s / fraction - elapsed_s)) : ""),
           redraw);
}

void finish_line() {
  State& log = state();
  const std::lock_guard lock(log.mutex);
  if (log.in_progress_line) std::fputs("\n", stderr);
  log.in_progress_line = false;
}

std::vector<std::string> warnings() {
  const std::lock_guard lock(state().mutex);
  return state().warnings;
}

QuietScope::QuietScope() {
  const std::lock_guard lock(state().mutex);
  ++state().quiet_depth;
}

QuietScope::~QuietScope() {
  const std::lock_guard lock(state().mutex);
  --state().quiet_depth;
}

}  // namespace slipway::log
