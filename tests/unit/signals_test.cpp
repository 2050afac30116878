// Signals are blocked in every thread and received by one that waits for them; a second INT ends the process.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "launch/process/crash_record.hpp"
#include "launch/process/signals.hpp"
#include "src/core/file.hpp"
#include "src/core/json.hpp"

namespace slipway {
namespace {

using SignalsDeathTest = testing::Test;

/// Sent to the process: raise() would send it to this thread alone, which has it blocked.
void send_signal(int signal) { kill(getpid(), signal); }

/// Returns once `predicate()` is true; ends the process where that takes more than 10 s.
template <class Predicate>
void wait_until(Predicate predicate) {
  for (int i = 0; !predicate(); ++i) {
    if (i == 10'000) _exit(99);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

bool is_pending(int signal) {
  sigset_t set;
  sigpending(&set);
  return sigismember(&set, signal) == 1;
}

// A request stays for the life of the process, so each case has a process of its own.
int status_after(std::initializer_list<int> signals) {
  start_signal_thread();
  for (const int signal : signals) {
    send_signal(signal);
    wait_until([&] { return pending_signal() != 0 && !is_pending(signal); });
  }
  return exit_status_of_signal(pending_signal());
}

TEST(SignalsDeathTest, TheFirstRequestDecidesTheExitStatus) {
  EXPECT_EXIT(_exit(status_after({SIGUSR1})), testing::ExitedWithCode(138), "");
  EXPECT_EXIT(_exit(status_after({SIGUSR2})), testing::ExitedWithCode(140), "");
  EXPECT_EXIT(_exit(status_after({SIGTERM})), testing::ExitedWithCode(143), "");
  EXPECT_EXIT(_exit(status_after({SIGINT})), testing::ExitedWithCode(130), "");
  EXPECT_EXIT(_exit(status_after({SIGUSR1, SIGTERM, SIGINT, SIGTERM})), testing::ExitedWithCode(138), "");
}

TEST(SignalsDeathTest, TwoInterruptsOfTheSameMomentAreOne) {  // timeout -s INT: to its child, and to its child's group
  EXPECT_EXIT(_exit(status_after({SIGINT, SIGINT})), testing::ExitedWithCode(130), "");
}

TEST(SignalsDeathTest, ASecondInterruptEndsAtOnce) {
  EXPECT_EXIT(
      {
        status_after({SIGINT});
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
        send_signal(SIGINT);
        sleep(10);
      },
      testing::KilledBySignal(SIGINT), "");
}

TEST(SignalsDeathTest, WithoutASignalNothingIsPending) {
  EXPECT_EXIT(_exit(status_after({})), testing::ExitedWithCode(128), "");
}

TEST(SignalsDeathTest, AnInterruptThatAScriptsBackgroundJobIgnoresIsARequestAllTheSame) {
  EXPECT_EXIT(
      {
        ::signal(SIGINT, SIG_IGN);
        _exit(status_after({SIGINT}));
      },
      testing::ExitedWithCode(130), "");
}

TEST(SignalsDeathTest, AHangupThatNohupIgnoresIsNoRequest) {
  EXPECT_EXIT(
      {
        ::signal(SIGHUP, SIG_IGN);
        start_signal_thread();
        send_signal(SIGHUP);
        _exit(status_after({SIGUSR1}));
      },
      testing::ExitedWithCode(138), "");
}

TEST(SignalsDeathTest, TermFromAnyoneButTheLauncherIsARequestToSave) {
  EXPECT_EXIT(
      {
        setenv("OMPI_COMM_WORLD_RANK", "0", 1);
        setenv("PMIX_NAMESPACE", "job", 1);
        const int status = status_after({SIGTERM});  // from this process, not from its parent
        _exit(launcher_is_ending() ? 1 : status);
      },
      testing::ExitedWithCode(143), "");
}

TEST(SignalsDeathTest, AProcessThatWaitsToBeEndedEndsByTerm) {
  EXPECT_EXIT(
      {
        start_signal_thread();
        restore_default_sigterm();
        send_signal(SIGTERM);
        sleep(10);
      },
      testing::KilledBySignal(SIGTERM), "");
}

TEST(SignalsDeathTest, EveryThreadButTheWaitingOneHasTheSignalsBlocked) {
  EXPECT_EXIT(
      {
        start_signal_thread();
        std::thread([] {
          sigset_t set;
          pthread_sigmask(SIG_BLOCK, nullptr, &set);
          for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2})
            if (sigismember(&set, signal) != 1) _exit(1);
          _exit(0);
        }).join();
      },
      testing::ExitedWithCode(0), "");
}

TEST(SignalsDeathTest, ADeathByASignalIsRecordedAndStaysOne) {
  const std::filesystem::path run = std::filesystem::temp_directory_path() / join("crash-record-", getpid());
  std::filesystem::create_directories(run);
  for (const int signal : {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL}) {
    atomic_write_file(run / "status.json", R"({"status": "running"})");
    struct sigaction action {};
    sigaction(signal, nullptr, &action);
    if (action.sa_handler != SIG_DFL) continue;  // a sanitizer's handler stays
    EXPECT_EXIT(
        {
          install_crash_handlers();
          const CrashRecord record(run, 3);
          raise(signal);
        },
        testing::KilledBySignal(signal), join("slipway: error .bug.: rank 3 died of SIG", sigabbrev_np(signal)));
    const Json status = read_json(run / "status.json", Fault::kStorage);
    EXPECT_EQ(status.value("status", ""), "failed");
    EXPECT_EQ(status.value("signal", 0), signal);
    EXPECT_EQ(status.value("rank", 0), 3);
  }
  EXPECT_EXIT(
      {
        install_crash_handlers();
        { const CrashRecord record(run, 0); }
        atomic_write_file(run / "status.json", R"({"status": "ok"})");
        raise(SIGABRT);  // which sanitizers leave alone
      },
      testing::KilledBySignal(SIGABRT), "slipway: error .bug.: died of SIGABRT");
  EXPECT_EQ(read_json(run / "status.json", Fault::kStorage).value("status", ""), "ok");
  std::filesystem::remove_all(run);
}

TEST(Signals, TheFirstLogLineSaysHowToStop) {
  unsetenv("SLIPWAY_LAUNCH_RUN");
  EXPECT_NE(stop_hint({}).find("Ctrl-C"), std::string::npos);
  EXPECT_NE(stop_hint({.is_launched = true, .name = "mpirun"}).find("kill -USR1"), std::string::npos);
  EXPECT_NE(stop_hint({.is_launched = true, .name = "srun"}).find("scancel"), std::string::npos);
  setenv("SLIPWAY_LAUNCH_RUN", "1", 1);
  EXPECT_NE(stop_hint({.is_launched = true, .name = "mpirun"}).find("launch/run"), std::string::npos);
}

}  // namespace
}  // namespace slipway
