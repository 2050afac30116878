// Signals are noted, not obeyed; asking twice with INT is obeyed.
#include <gtest/gtest.h>
#include <signal.h>

#include "launch/signals.hpp"

namespace slipway {
namespace {

// A signal stays noted for the life of the process, so each case has a process of its own.
int status_after(std::initializer_list<int> signals) {
  install_signals();
  for (const int signal : signals) raise(signal);
  return exit_status_of_signal(pending_signal());
}

using SignalsDeathTest = testing::Test;

TEST(SignalsDeathTest, TheFirstOneNotedDecidesTheExitStatus) {
  EXPECT_EXIT(_exit(status_after({SIGUSR1})), testing::ExitedWithCode(138), "");
  EXPECT_EXIT(_exit(status_after({SIGUSR2})), testing::ExitedWithCode(140), "");
  EXPECT_EXIT(_exit(status_after({SIGTERM})), testing::ExitedWithCode(143), "");
  EXPECT_EXIT(_exit(status_after({SIGINT})), testing::ExitedWithCode(130), "");
  EXPECT_EXIT(_exit(status_after({SIGUSR1, SIGTERM, SIGINT, SIGTERM})), testing::ExitedWithCode(138), "");
}

TEST(SignalsDeathTest, ASecondInterruptEndsAtOnce) {
  EXPECT_EXIT(_exit(status_after({SIGINT, SIGINT})), testing::KilledBySignal(SIGINT), "");
}

TEST(SignalsDeathTest, WithoutASignalNothingIsPending) {
  EXPECT_EXIT(_exit(status_after({})), testing::ExitedWithCode(128), "");
}

TEST(Signals, TermFromAnyoneButTheLauncherIsARequestToSave) {
  EXPECT_EXIT(
      {
        setenv("OMPI_COMM_WORLD_RANK", "0", 1);
        setenv("PMIX_NAMESPACE", "job", 1);
        install_signals();
        raise(SIGTERM);  // from this process, not from its parent
        _exit(launcher_is_ending() ? 1 : exit_status_of_signal(pending_signal()));
      },
      testing::ExitedWithCode(143), "");
}

TEST(Signals, HaveTheNamesThatPeopleType) {}

TEST(Signals, TheFirstLogLineSaysHowToStop) {
  unsetenv("SLIPWAY_LAUNCH_RUN");
  EXPECT_NE(how_to_stop({}).find("Ctrl-C"), std::string::npos);
  EXPECT_NE(how_to_stop({.present = true, .name = "mpirun"}).find("kill -USR1"), std::string::npos);
  EXPECT_NE(how_to_stop({.present = true, .name = "srun"}).find("scancel"), std::string::npos);
  setenv("SLIPWAY_LAUNCH_RUN", "1", 1);
  EXPECT_NE(how_to_stop({.present = true, .name = "mpirun"}).find("launch/run"), std::string::npos);
}

}  // namespace
}  // namespace slipway
