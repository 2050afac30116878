// How long the threads of this process have been runnable while other processes occupied the CPUs.
#pragma once

#include <map>
#include <optional>

namespace slipway {

/// CPU time and wait time of this process so far.
struct CpuTimes {
  double wall_s = 0;
  double cpu_s = 0;              ///< of all threads together
  std::map<int, double> wait_s;  ///< of each thread: runnable, but on no CPU (proc(5), schedstat)
};

/// nullopt where the system does not count it. Cost: about 10 us per thread.
std::optional<CpuTimes> cpu_times();

/// CPU use of a process between two samples.
struct CpuUsage {
  double cpus = 0;  ///< CPUs in use, on average
  double wait = 0;  ///< fraction of the time that a thread waited for a CPU; the maximum over threads
};
CpuUsage cpu_usage_between(const CpuTimes& before, const CpuTimes& after);

}  // namespace slipway
