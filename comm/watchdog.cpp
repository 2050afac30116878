#include "comm/watchdog.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "comm/world.hpp"
#include "src/core/clock.hpp"
#include "src/core/error.hpp"

namespace slipway {

/// The pending collectives, and the thread that checks them.
struct Watchdog {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<CollectiveScope*> calls;  // the outermost call of every thread that is in one
  double timeout_s = 0;
  std::string note;
  std::vector<Peer> peers;
  bool started = false;
  std::atomic<bool> disabled = false;

  void start();
  [[noreturn]] void watch();
  [[noreturn]] void abort_run(const CollectiveScope& call, double waited_s) const;
  std::string suspect(const CollectiveScope& call) const;

  static Watchdog& instance() {
    static Watchdog* const singleton = new Watchdog;  // its thread outlives every static object
    return *singleton;
  }
  static double staggered_timeout_s(double timeout_s, const CollectiveScope& call) {
    return timeout_s + std::min(0.25 * call.rank_, 5.0);  // staggered by rank, so that one rank reports and aborts all
  }
};

namespace {

thread_local CollectiveScope* current = nullptr;

/// "stopped" or "gone"; null for a process that runs normally.
const char* process_state(int pid) {
  std::ifstream file(join("/proc/", pid, "/stat"));
  std::string line;
  if (!std::getline(file, line)) return "gone";
  const std::size_t name_end = line.rfind(") ");
  const char state = name_end == std::string::npos ? '?' : line[name_end + 2];
  if (state == 'T' || state == 't') return "stopped";
  return state == 'Z' || state == 'X' ? "gone" : nullptr;
}

}  // namespace

CollectiveScope::CollectiveScope(const char* name, int rank, int peer)
    : name_(name), rank_(rank), peer_(peer), since_s_(now_s()), scope_(name) {
  Watchdog& watchdog = Watchdog::instance();
  const std::lock_guard lock(watchdog.mutex);
  if (current == nullptr) {
    current = outermost_ = this;
    watchdog.calls.push_back(this);
  } else {
    outermost_ = current;
    outermost_->since_s_ = since_s_;
    outermost_->peer_ = peer;
  }
}

CollectiveScope::~CollectiveScope() {
  Watchdog& watchdog = Watchdog::instance();
  const std::lock_guard lock(watchdog.mutex);
  if (outermost_ == this) {
    current = nullptr;
    std::erase(watchdog.calls, this);
  } else {
    outermost_->since_s_ = now_s();
    outermost_->peer_ = -1;
  }
}

void Watchdog::start() {
  started = true;
  std::thread([this] { watch(); }).detach();
}

void Watchdog::watch() {
  std::unique_lock lock(mutex);
  for (;;) {
    if (timeout_s <= 0) {
      changed.wait(lock);
      continue;
    }
    changed.wait_for(lock, std::chrono::duration<double>(std::min(1.0, timeout_s / 4)));
    if (disabled || timeout_s <= 0) continue;
    for (const CollectiveScope* call : calls) {
      const double waited_s = now_s() - call->since_s_;
      if (waited_s > staggered_timeout_s(timeout_s, *call)) abort_run(*call, waited_s);
    }
  }
}

void Watchdog::abort_run(const CollectiveScope& call, double waited_s) const {
  const std::string note_text = note.empty() ? "" : join(" (", note, ")");
  const std::string line = join("slipway: error (comm): rank ", call.rank_, " waits for ", std::lround(waited_s),
                                " s in ", call.name_, note_text, " and hears nothing from ", suspect(call),
                                "; look at the ranks' hosts, then go on from the newest checkpoint with --resume\n");
  if (!claim_error_report())
    std::this_thread::sleep_for(std::chrono::seconds(10));  // a peer has reported it and aborts all
  if (::write(STDERR_FILENO, line.data(), line.size()) < 0) {
  }  // nowhere else to report
  abort_all(static_cast<int>(Fault::kComm));
}

/// The suspected peers of the call, and the state of their processes where known.
std::string Watchdog::suspect(const CollectiveScope& call) const {
  std::string description;
  for (const Peer& peer : peers) {
    if (peer.pid == 0) continue;
    const char* state = process_state(peer.pid);
    if (state != nullptr)
      description +=
          join(description.empty() ? "" : " and ", "rank ", peer.rank, ", whose process ", peer.pid, " is ", state);
  }
  if (!description.empty()) return description;
  const int single_peer = peers.size() == 1 ? peers.front().rank : call.peer_;
  return single_peer < 0 ? "its peers, one of which is stuck or lost"
                         : join("rank ", single_peer, ", which is stuck or lost");
}

void set_watchdog_peers(std::vector<Peer> peers) {
  Watchdog& watchdog = Watchdog::instance();
  const std::lock_guard lock(watchdog.mutex);
  watchdog.peers = std::move(peers);
}

void start_watchdog(double timeout_s) {
  Watchdog& watchdog = Watchdog::instance();
  const std::lock_guard lock(watchdog.mutex);
  watchdog.timeout_s = timeout_s;
  if (timeout_s > 0 && !watchdog.started) watchdog.start();
  watchdog.changed.notify_all();
}

void set_watchdog_note(const std::string& note) {
  Watchdog& watchdog = Watchdog::instance();
  const std::lock_guard lock(watchdog.mutex);
  watchdog.note = note;
}

void disable_watchdog() noexcept { Watchdog::instance().disabled = true; }

}  // namespace slipway
