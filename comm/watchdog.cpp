#include "comm/watchdog.hpp"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "comm/world.hpp"
#include "src/core/clock.hpp"
#include "src/core/error.hpp"

namespace slipway {

/// The calls under way, and the thread that looks at them.
struct Watchdog {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<Call*> calls;  // the outermost of every thread that waits
  double limit_s = 0;
  std::string note;
  bool started = false;
  std::atomic<bool> muted = false;

  void start();
  [[noreturn]] void watch();
  [[noreturn]] void end(const Call& call, double waited_s) const;

  static Watchdog& instance() {
    static Watchdog* const forever = new Watchdog;  // its thread outlives every static object
    return *forever;
  }
  static double patience_s(double limit_s, const Call& call) {
    return limit_s +
           std::min(0.25 * call.rank_, 5.0);  // ranks stuck together speak one after the other: the first ends all
  }
};

namespace {
thread_local Call* current = nullptr;
}

Call::Call(const char* name, int rank, int peer)
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

Call::~Call() {
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
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for the thread that trains
  std::thread([this] { watch(); }).detach();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void Watchdog::watch() {
  std::unique_lock lock(mutex);
  for (;;) {
    if (limit_s <= 0) {
      changed.wait(lock);
      continue;
    }
    changed.wait_for(lock, std::chrono::duration<double>(std::min(1.0, limit_s / 4)));
    if (muted || limit_s <= 0) continue;
    for (const Call* call : calls) {
      const double waited_s = now_s() - call->since_s_;
      if (waited_s > patience_s(limit_s, *call)) end(*call, waited_s);
    }
  }
}

void Watchdog::end(const Call& call, double waited_s) const {
  const std::string place = note.empty() ? "" : join(" (", note, ")");
  const std::string whom = call.peer_ < 0 ? "its peers, one of which" : join("rank ", call.peer_, ", which");
  const std::string line =
      join("slipway: error (comm): rank ", call.rank_, " waits for ", std::lround(waited_s), " s in ", call.name_,
           place, " and hears nothing from ", whom,
           " is stuck or lost; look at the ranks' hosts, then go on from the newest checkpoint with --resume\n");
  if (!first_to_speak()) std::this_thread::sleep_for(std::chrono::seconds(10));  // a peer has said it and ends all
  if (::write(STDERR_FILENO, line.data(), line.size()) < 0) {
  }  // nothing is left to tell
  abort_all(static_cast<int>(Fault::kComm));
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

void mute_watchdog() noexcept { Watchdog::instance().muted = true; }

}  // namespace slipway
