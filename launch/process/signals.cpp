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

std::atomic<int> first_request = 0;
std::atomic<bool> launcher_ending = false;
std::atomic<bool> term_ends_process = false;

/// The callback that runs before a signal ends this process without a save.
struct ExitCallback {
  std::mutex mutex;
  std::function<void(int by_signal)> call;

  static ExitCallback& instance() {
    static ExitCallback* const forever = new ExitCallback;  // the waiting thread outlives every static object
    return *forever;
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
  ExitCallback& end = ExitCallback::instance();
  const std::lock_guard lock(end.mutex);
  if (end.call) end.call(by_signal);
}

void handle_request(const siginfo_t& info, bool under_launcher) {
  const int signal = info.si_signo;
  if (signal == SIGTERM && under_launcher && info.si_pid == getppid() && !launcher_ending) {
    launcher_ending = true;
    disable_watchdog();
    run_exit_callback(0);
  }
  if (signal == SIGTERM && term_ends_process) raise_default(SIGTERM);
  static double first_s = 0;  // only the waiting thread calls this function
  int none = 0;
  if (first_request == 0) first_s = now_s();
  if (first_request.compare_exchange_strong(none, signal)) {
    log::info(join("signal ", sigabbrev_np(signal),
                   ": what is under way is finished first (a step, a validation, the rehearsal), then the run is saved",
                   signal == SIGINT ? "; Ctrl-C once more stops at once, unsaved" : ""));
    return;
  }
  constexpr double kDuplicate_s = 0.1;  // `timeout -s INT` sends two at once: to the process and to its group
  if (signal != SIGINT || none != SIGINT || now_s() - first_s <= kDuplicate_s) return;
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

  const bool under_launcher = launcher_info().present;
  std::thread([requests, under_launcher] { wait_for_requests(requests, under_launcher); }).detach();
}

int pending_signal() { return first_request; }

bool launcher_is_ending() { return launcher_ending; }

void restore_default_sigterm() {
  term_ends_process = true;
  if (launcher_ending) std::_Exit(EXIT_FAILURE);  // TERM arrived earlier; a peer has reported the cause
}

void set_exit_callback(std::function<void(int by_signal)> call) {
  ExitCallback& end = ExitCallback::instance();
  const std::lock_guard lock(end.mutex);
  end.call = std::move(call);
}

std::string how_to_stop(const LauncherInfo& launcher) {
  if (std::getenv("SLIPWAY_LAUNCH_RUN") != nullptr) return "Ctrl-C or TERM to launch/run saves and stops";
  if (launcher.name == "mpirun")
    return join("kill -USR1 ", getppid(),
                " (mpirun) saves and stops; Ctrl-C here kills within 2 s: start with launch/run to have it save");
  if (launcher.present) return "scancel --signal=USR1 saves and stops";
  return join("Ctrl-C or kill -TERM ", getpid(), " saves and stops; Ctrl-C twice stops at once");
}

}  // namespace slipway
