#include "launch/process/launcher.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <new>
#include <thread>

#include "launch/process/signals.hpp"
#include "launch/process/streams.hpp"
#include "src/core/clock.hpp"
#include "src/core/cpus.hpp"
#include "src/core/json_error.hpp"
#include "src/core/log.hpp"
#include "src/core/terminal.hpp"

namespace slipway {
namespace {

constexpr double kTerminationWait_s = 10;

/// The launcher ends us by TERM as soon as it knows of the fault.
void wait_for_termination(double seconds) {
  restore_default_sigterm();
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

/// A file may hold a word of megabytes, and an error that quotes it is still one line to be read.
std::string shorten_message(const std::string& message) {
  constexpr std::size_t kMax = 2000, kTailBytes = 400;  // the hint stands at the end
  if (message.size() <= kMax) return message;
  return message.substr(0, kMax - kTailBytes) + " ... " + message.substr(message.size() - kTailBytes);
}

void print(Fault fault, const std::string& message) {
  log::finish_line();
  log::event("error", {{"fault", std::string(name(fault))}, {"text", message}});
  std::string line = printable(join("slipway: error (", name(fault), "): ", shorten_message(message)));
  std::replace(line.begin(), line.end(), '\n', ' ');
  line += '\n';
  for (std::size_t offset = 0; offset < line.size();) {
    const ssize_t num_written = ::write(STDERR_FILENO, line.data() + offset, line.size() - offset);
    if (num_written <= 0) return;
    offset += static_cast<std::size_t>(num_written);
  }
}

}  // namespace

int fail_all_ranks(Fault fault, const std::string& message) {
  const int status = static_cast<int>(fault);
  const LauncherInfo launcher = launcher_info();
  if (!launcher.is_launched) {
    print(fault, message);
    return status;
  }
  if (!mpi_running()) {
    if (launcher.rank != 0) {
      wait_for_termination(kTerminationWait_s);
      // Still alive, so rank 0 does not share this fault: a file that this host alone lacks, an older CPU.
      if (!claim_error_report()) return status;
    }
    print(fault, message);
    return status;
  }
  // A rank cannot ask the others what they found. So rank 0 speaks at once and the others in their turn, if they still
  // live; and what looks like a fault of communication is often the echo of a peer's own fault, which should be heard
  // instead.
  const double comm_delay_s = fault == Fault::kComm ? 1.0 : 0.0;
  const double rank_delay_s = launcher.rank == 0 ? 0.0 : 0.3 + 0.1 * std::min(launcher.rank, 20);
  wait_for_termination(comm_delay_s + rank_delay_s);
  if (!claim_error_report()) wait_for_termination(kTerminationWait_s);
  print(fault, message);
  abort_all(status);
}

int run_guarded(const std::function<int()>& command) {
  try {
    const int status = command();
    check_output();
    return status;
  } catch (const Error& error) {
    return fail_all_ranks(error.fault(), error.what());
  } catch (const std::bad_alloc&) {
    return fail_all_ranks(
        Fault::kDevice,
        "out of memory: give it less at once (for training lower train.micro_batch or train.sequence, or set "
        "train.recompute = blocks), or run on a machine with more");
  } catch (const std::filesystem::filesystem_error& error) {
    return fail_all_ranks(Fault::kStorage, error.what());
  } catch (const nlohmann::json::exception& error) {
    return fail_all_ranks(Fault::kBug,
                          join("unexpected JSON: ", reason_of(error), "; please report it with the command line"));
  } catch (const std::exception& error) {
    return fail_all_ranks(Fault::kBug, join("unexpected: ", error.what(), "; please report it with the command line"));
  }
}

RuntimeOptions runtime_options(const ParallelConfig& parallel, World& world) {
  return {.device = parallel.device,
          .local_rank = world.launcher().local_rank,
          .instructions = parallel.instructions,
          .threads = parallel.threads > 0 ? parallel.threads : std::max(1, world.local_cpus() / world.local_size())};
}

void check_threads(World& world, int threads) {
  const LauncherInfo& launcher = world.launcher();
  const int bound_cpus = count(cpu_mask()), ranks = world.local_size(), cpus = world.local_cpus();
  if (launcher.local_rank != 0) return;
  if (bound_cpus < threads && launcher.name == "mpirun") {
    log::warn(join("runtime.threads is ", threads, " but mpirun has bound each rank to ", bound_cpus,
                   bound_cpus == 1 ? " CPU" : " CPUs",
                   ": start with mpirun --bind-to none, or --map-by slot:PE=", threads));
  } else if (ranks * threads > cpus) {
    log::warn(join(ranks, ranks == 1 ? " rank" : " ranks", " x ", threads, threads == 1 ? " thread" : " threads",
                   " do not fit the ", cpus, cpus == 1 ? " CPU" : " CPUs", " that this host gives them: ",
                   threads == 1 ? join("start at most ", cpus, " ranks here")
                                : join("set --runtime.threads ", std::max(1, cpus / ranks)),
                   ", or expect them to take turns"));
  } else if (const int parent_cpus = launcher.is_launched ? clamp_to_quota(count(cpu_mask(getppid()))) : cpus;
             launcher.rank == 0 && ranks * threads < parent_cpus && cpus < parent_cpus) {
    log::info(join("mpirun has bound ", ranks, ranks == 1 ? " rank" : " ranks", " to ", cpus, " of this host's ",
                   parent_cpus, " CPUs: mpirun --bind-to none lets them use all"));
  }
}

std::string start_command(const LauncherInfo& launcher) {
  if (!launcher.is_launched || launcher.size < 2) return "";
  const char* script = std::getenv("SLIPWAY_LAUNCH_RUN");
  return join(script != nullptr ? script : launcher.name, " -n ", launcher.size, " ");
}

}  // namespace slipway
