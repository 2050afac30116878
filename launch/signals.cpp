#include "launch/signals.hpp"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>

#include "src/core/error.hpp"

namespace slipway {
namespace {

std::atomic<int> noted = 0;
std::atomic<bool> ending = false;
std::atomic<bool> under_launcher = false;
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may only touch lock-free atomics");

void take_note(int signal, siginfo_t* info, void*) {
  if (signal == SIGTERM && under_launcher && info->si_pid == getppid()) {
    ending = true;
    mute_watchdog();
  }
  int none = 0;
  if (noted.compare_exchange_strong(none, signal)) return;
  if (signal != SIGINT || none != SIGINT) return;
  ::signal(SIGINT, SIG_DFL);  // asked twice: raised now, delivered when this handler returns
  ::raise(SIGINT);
}

}  // namespace

void install_signals() {
  under_launcher = launcher_info().present;
  struct sigaction action {};
  action.sa_sigaction = take_note;
  action.sa_flags = SA_SIGINFO | SA_RESTART;  // a write to a file is not cut short
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1, SIGUSR2}) sigaction(signal, &action, nullptr);
  struct sigaction hangup {};
  sigaction(SIGHUP, nullptr, &hangup);
  if (hangup.sa_handler == SIG_DFL) sigaction(SIGHUP, &action, nullptr);  // ignored: nohup wants the run to go on
  // Ctrl-C also ends the `tee` that a log goes through: a line that nobody reads any more must not end the run.
  ::signal(SIGPIPE, SIG_IGN);
}

int pending_signal() { return noted; }

bool launcher_is_ending() { return ending; }

std::string how_to_stop(const LauncherInfo& launcher) {
  if (std::getenv("SLIPWAY_LAUNCH_RUN") != nullptr) return "Ctrl-C or TERM to launch/run saves and stops";
  if (launcher.name == "mpirun")
    return join("kill -USR1 ", getppid(),
                " (mpirun) saves and stops; Ctrl-C here kills within 2 s: start with launch/run to have it save");
  if (launcher.present) return "scancel --signal=USR1 saves and stops";
  return join("Ctrl-C or kill -TERM ", getpid(), " saves and stops; Ctrl-C twice stops at once");
}

}  // namespace slipway
