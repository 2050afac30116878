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

void nap(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

/// Steps until a signal is agreed on, then "saves".
int step_until_signal(Group& group) {
  if (group.rank() == 0) std::cout << "ready" << std::endl;
  for (int step = 0; step < 3000; ++step) {
    nap(0.01);
    const int signal = static_cast<int>(group.all_reduce_max(pending_signal()));
    if (signal == 0) continue;
    nap(0.2);
    if (group.rank() == 0) std::cout << "saved on " << sigabbrev_np(signal) << std::endl;
    return exit_status_of_signal(signal);
  }
  return 1;
}

int probe(const std::string& what, int which, const std::string& folder) {
  if (what == "config") throw Error(Fault::kConfig, "the key is unknown");

  start_signal_thread();
  World world;
  Group& group = world.group();
  const bool chosen = group.rank() == which;
  if (what == "all") throw Error(Fault::kNumeric, "every rank finds this");
  if (what == "late") {  // all find it, rank 0 last, after `which` hundredths of a second
    if (group.rank() == 0) nap(0.01 * which);
    throw Error(Fault::kStorage, "every rank finds this");
  }
  if (what == "one" && chosen) throw Error(Fault::kData, "one rank finds this");
  if (what == "lost" && chosen) raise(SIGKILL);
  if (what == "stuck") {
    set_watchdog(1);
    set_watchdog_note("step 3");
    if (chosen) nap(30);
  }
  if (what == "one" || what == "lost" || what == "stuck") return step_until_signal(group);
  if (what == "signal") return step_until_signal(group);
  if (what == "lock") {
    const RunLock lock(folder, group);
    return step_until_signal(group);
  }
  if (what == "threads") {
    const int threads = runtime_options({.threads = which}, world).threads;
    check_threads(world, threads);
    if (group.rank() == 0) std::cout << "threads " << threads << std::endl;
    return 0;
  }
  if (what == "stop") {
    log::info(how_to_stop(world.launcher()));
    return 0;
  }
  throw Error(Fault::kConfig, "comm_probe knows nothing of " + what);
}

}  // namespace
}  // namespace slipway

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  return slipway::run_guarded(
      [&] { return slipway::probe(what, argc > 2 ? std::atoi(argv[2]) : 0, argc > 3 ? argv[3] : "."); });
}
