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
  double limit_s = 0;
  std::string note;
  std::vector<Peer> peers;
  bool started = false;
  std::atomic<bool> disabled = false;

  void start();
  [[noreturn]] void watch();
  [[noreturn]] void abort_run(const CollectiveScope& call, double waited_s) const;
  std::string suspect(const CollectiveScope& call) const;

  static Watchdog& instance() {
    static Watchdog* const forever = new Watchdog;  // its thread outlives every static object
    return *forever;
  }
  static double timeout_s(double limit_s, const CollectiveScope& call) {
    return limit_s + std::min(0.25 * call.rank_, 5.0);  // staggered by rank, so that one rank reports and aborts all
  }
};

namespace {

thread_local CollectiveScope* current = nullptr;

/// "stopped" or "gone"; null for a process that runs normally.
const char* state_of(int process) {
  std::ifstream file(join("/proc/", process, "/stat"));
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
  Watchdog& dog = Watchdog::instance();
  const std::lock_guard lock(dog.mutex);
  if (current == nullptr) {
    current = outer_ = this;
    dog.calls.push_back(this);
  } else {
    outer_ = current;
    outer_->since_s_ = since_s_;
    outer_->peer_ = peer;
  }
}

CollectiveScope::~CollectiveScope() {
  Watchdog& dog = Watchdog::instance();
  const std::lock_guard lock(dog.mutex);
  if (outer_ == this) {
    current = nullptr;
    std::erase(dog.calls, this);
  } else {
    outer_->since_s_ = now_s();
    outer_->peer_ = -1;
  }
}

void Watchdog::start() {
  started = true;
  std::thread([this] { watch(); }).detach();
}

void Watchdog::watch() {
  std::unique_lock lock(mutex);
  for (;;) {
    if (limit_s <= 0) {
      changed.wait(lock);
      continue;
    }
    changed.wait_for(lock, std::chrono::duration<double>(std::min(1.0, limit_s / 4)));
    if (disabled || limit_s <= 0) continue;
    for (const CollectiveScope* call : calls) {
      const double waited_s = now_s() - call->since_s_;
      if (waited_s > timeout_s(limit_s, *call)) abort_run(*call, waited_s);
    }
  }
}

void Watchdog::abort_run(const CollectiveScope& call, double waited_s) const {
  const std::string place = note.empty() ? "" : join(" (", note, ")");
  const std::string line = join("slipway: error (comm): rank ", call.rank_, " waits for ", std::lround(waited_s),
                                " s in ", call.name_, place, " and hears nothing from ", suspect(call),
                                "; look at the ranks' hosts, then go on from the newest checkpoint with --resume\n");
  if (!claim_error_report())
    std::this_thread::sleep_for(std::chrono::seconds(10));  // a peer has reported it and aborts all
  if (::write(STDERR_FILENO, line.data(), line.size()) < 0) {
  }  // nowhere else to report
  abort_all(static_cast<int>(Fault::kComm));
}

/// The suspected peers of the call, and the state of their processes where known.
std::string Watchdog::suspect(const CollectiveScope& call) const {
  std::string named;
  for (const Peer& peer : peers) {
    if (peer.process == 0) continue;
    const char* state = state_of(peer.process);
    if (state != nullptr)
      named += join(named.empty() ? "" : " and ", "rank ", peer.rank, ", whose process ", peer.process, " is ", state);
  }
  if (!named.empty()) return named;
  const int only = peers.size() == 1 ? peers.front().rank : call.peer_;
  return only < 0 ? "its peers, one of which is stuck or lost" : join("rank ", only, ", which is stuck or lost");
}

void set_watchdog_peers(std::vector<Peer> peers) {
  Watchdog& dog = Watchdog::instance();
  const std::lock_guard lock(dog.mutex);
  dog.peers = std::move(peers);
}

void set_watchdog(double limit_s) {
  Watchdog& dog = Watchdog::instance();
  const std::lock_guard lock(dog.mutex);
  dog.limit_s = limit_s;
  if (limit_s > 0 && !dog.started) dog.start();
  dog.changed.notify_all();
}

void set_watchdog_note(const std::string& note) {
  Watchdog& dog = Watchdog::instance();
  const std::lock_guard lock(dog.mutex);
  dog.note = note;
}

void disable_watchdog() noexcept { Watchdog::instance().disabled = true; }

}  // namespace slipway
