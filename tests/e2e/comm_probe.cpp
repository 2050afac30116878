// A program that does one thing wrong, or waits for a signal: what users see of it is checked by comm.py.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <thread>

#include "comm/watchdog.hpp"
#include "launch/process/launcher.hpp"
#include "launch/process/signals.hpp"
#include "launch/run_folder/run_lock.hpp"
#include "src/core/log.hpp"

namespace slipway {
namespace {

void sleep_s(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

/// Steps until a signal is agreed on, then "saves".
int step_until_signal(Group& group) {
  if (group.rank() == 0) std::cout << "ready" << std::endl;
  for (int step = 0; step < 3000; ++step) {
    sleep_s(0.01);
    const int signal = static_cast<int>(group.all_reduce_max(pending_signal()));
    if (signal == 0) continue;
    sleep_s(0.2);
    if (group.rank() == 0) std::cout << "saved on " << sigabbrev_np(signal) << std::endl;
    return exit_status_of_signal(signal);
  }
  return 1;
}

int probe(const std::string& mode, int argument, const std::string& folder) {
  if (mode == "config") throw Error(Fault::kConfig, "the key is unknown");

  start_signal_thread();
  World world;
  Group& group = world.group();
  const bool is_selected_rank = group.rank() == argument;
  if (mode == "all") throw Error(Fault::kNumeric, "every rank finds this");
  if (mode == "late") {  // all find it, rank 0 last, after `argument` hundredths of a second
    if (group.rank() == 0) sleep_s(0.01 * argument);
    throw Error(Fault::kStorage, "every rank finds this");
  }
  if (mode == "one" && is_selected_rank) throw Error(Fault::kData, "one rank finds this");
  if (mode == "lost" && is_selected_rank) raise(SIGKILL);
  if (mode == "stuck") {
    start_watchdog(1);
    set_watchdog_note("step 3");
    if (is_selected_rank) sleep_s(30);
  }
  if (mode == "one" || mode == "lost" || mode == "stuck") return step_until_signal(group);
  if (mode == "signal") return step_until_signal(group);
  if (mode == "lock") {
    const RunLock lock(folder, group);
    return step_until_signal(group);
  }
  if (mode == "threads") {
    const int threads = runtime_options({.threads = argument}, world).threads;
    check_threads(world, threads);
    if (group.rank() == 0) std::cout << "threads " << threads << std::endl;
    return 0;
  }
  if (mode == "stop") {
    log::info(stop_hint(world.launcher()));
    return 0;
  }
  throw Error(Fault::kConfig, "comm_probe knows nothing of " + mode);
}

}  // namespace
}  // namespace slipway

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  return slipway::run_guarded(
      [&] { return slipway::probe(mode, argc > 2 ? std::atoi(argv[2]) : 0, argc > 3 ? argv[3] : "."); });
}
