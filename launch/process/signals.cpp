#include "launch/process/signals.hpp"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

#include "comm/watchdog.hpp"
#include "kernels/backend/cpu_backend.hpp"
#include "src/core/clock.hpp"
#include "src/core/error.hpp"
#include "src/core/log.hpp"

namespace slipway {
namespace {

std::atomic<int> first_signal = 0;
std::atomic<bool> is_launcher_ending = false;
std::atomic<bool> should_term_end_process = false;

/// The callback that runs before a signal ends this process without a save.
struct ExitCallback {
  std::mutex mutex;
  std::function<void(int by_signal)> callback;

  static ExitCallback& instance() {
    static ExitCallback* const singleton = new ExitCallback;  // the waiting thread outlives every static object
    return *singleton;
  }
};

/// Ends the process by the signal's default action.
[[noreturn]] void raise_default(int signal) {
  ::signal(signal, SIG_DFL);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  ::raise(signal);
  std::_Exit(exit_status_of_signal(signal));
}

void run_exit_callback(int by_signal) {
  ExitCallback& exit_callback = ExitCallback::instance();
  const std::lock_guard lock(exit_callback.mutex);
  if (exit_callback.callback) exit_callback.callback(by_signal);
}

void handle_request(const siginfo_t& info, bool under_launcher) {
  const int signal = info.si_signo;
  if (signal == SIGTERM && under_launcher && info.si_pid == getppid() && !is_launcher_ending) {
    is_launcher_ending = true;
    disable_watchdog();
    run_exit_callback(0);
  }
  if (signal == SIGTERM && should_term_end_process) raise_default(SIGTERM);
  static double first_s = 0;  // only the waiting thread calls this function
  int expected = 0;
  if (first_signal == 0) first_s = now_s();
  if (first_signal.compare_exchange_strong(expected, signal)) {
    log::info(join("signal ", sigabbrev_np(signal),
                   ": what is under way is finished first (a step, a validation, the rehearsal), then the run is saved",
                   signal == SIGINT ? "; Ctrl-C once more stops at once, unsaved" : ""));
    return;
  }
  constexpr double kDuplicate_s = 0.1;  // `timeout -s INT` sends two at once: to the process and to its group
  if (signal != SIGINT || expected != SIGINT || now_s() - first_s <= kDuplicate_s) return;
  log::info("stopped at once by a second INT: what came after the newest checkpoint is lost");
  run_exit_callback(SIGINT);
  raise_default(SIGINT);
}

[[noreturn]] void wait_for_requests(sigset_t requests, bool under_launcher) {
  for (;;) {
    siginfo_t info;
    if (sigwaitinfo(&requests, &info) > 0) handle_request(info, under_launcher);
  }
}

bool is_ignored(int signal) {
  struct sigaction action {};
  return sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

}  // namespace

void start_signal_thread() {
  sigset_t requests;
  sigemptyset(&requests);
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1, SIGUSR2}) sigaddset(&requests, signal);
  if (!is_ignored(SIGHUP)) sigaddset(&requests, SIGHUP);  // under nohup it is ignored, and the run continues

  sigset_t blocked = requests;
  if (!matmuls_are_signal_safe()) {
    for (const int signal : {SIGALRM, SIGVTALRM, SIGPROF, SIGIO}) sigaddset(&blocked, signal);
    for (int signal = SIGRTMIN; signal <= SIGRTMAX; ++signal) sigaddset(&blocked, signal);
  }
  pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
  // An ignored signal is dropped even while it is blocked; a background job of a script starts with INT ignored.
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1, SIGUSR2}) ::signal(signal, SIG_DFL);
  // Ctrl-C also ends a `tee` that reads the log: writing to its closed pipe must not end the run.
  ::signal(SIGPIPE, SIG_IGN);

  const bool under_launcher = launcher_info().is_launched;
  std::thread([requests, under_launcher] { wait_for_requests(requests, under_launcher); }).detach();
}

int pending_signal() { return first_signal; }

bool launcher_is_ending() { return is_launcher_ending; }

void restore_default_sigterm() {
  should_term_end_process = true;
  if (is_launcher_ending) std::_Exit(EXIT_FAILURE);  // TERM arrived earlier; a peer has reported the cause
}

void set_exit_callback(std::function<void(int by_signal)> callback) {
  ExitCallback& exit_callback = ExitCallback::instance();
  const std::lock_guard lock(exit_callback.mutex);
  exit_callback.callback = std::move(callback);
}

std::string stop_hint(const LauncherInfo& launcher) {
  if (std::getenv("SLIPWAY_LAUNCH_RUN") != nullptr) return "Ctrl-C or TERM to launch/run saves and stops";
  if (launcher.name == "mpirun")
    return join("kill -USR1 ", getppid(),
                " (mpirun) saves and stops; Ctrl-C here kills within 2 s: start with launch/run to have it save");
  if (launcher.is_launched) return "scancel --signal=USR1 saves and stops";
  return join("Ctrl-C or kill -TERM ", getpid(), " saves and stops; Ctrl-C twice stops at once");
}

}  // namespace slipway
