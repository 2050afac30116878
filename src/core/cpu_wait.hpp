// How long the threads of this process have waited for a CPU that others held.
#pragma once

#include <map>
#include <optional>

namespace slipway {

/// What the system has counted for this process up to now.
struct CpuTimes {
  double wall_s = 0;
  double cpu_s = 0;              ///< of all threads together
  std::map<int, double> wait_s;  ///< of each thread: runnable, but on no CPU (proc(5), schedstat)
};

/// Nothing where the system does not count it. Cost: some 10 us a thread.
std::optional<CpuTimes> cpu_times();

/// What a process got between two looks at its times.
struct CpuShare {
  double cpus = 0;  ///< that it had, on average
  double wait = 0;  ///< share of the time that the thread which waited most waited for a CPU
};
CpuShare share_between(const CpuTimes& before, const CpuTimes& after);

}  // namespace slipway
