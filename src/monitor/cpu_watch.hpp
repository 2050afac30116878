// Detects that the ranks of a run get fewer CPUs than they have threads.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "comm/group.hpp"
#include "src/core/cpu_wait.hpp"

namespace slipway {

/// CPU time of one rank since the last check.
struct RankCpus {
  double wall_s = 0;
  double cpus = 0;  ///< average number of CPUs that it used
  double wait = 0;  ///< fraction of the time in which one of its threads waited for a CPU that others used
};

/// Compares the CPU time of a run's steps with their wall time, and warns once when other programs used the CPUs.
/// Counts the time in which threads were runnable without a CPU, not sleeping or waiting for messages or the disk.
class CpuWatch {
 public:
  CpuWatch(Group& all, int threads) : all_(all), threads_(threads) {}

  /// The first step begins now.
  void start() { before_ = cpu_times(); }

  /// A step has ended. `saved`: a checkpoint was being written meanwhile, whose threads also want CPUs.
  /// Returns  the warning, the same on all ranks; empty when there is no problem, or it was reported before.
  /// Ranks    collective.
  std::string check(std::int64_t step, bool saved);

 private:
  Group& all_;
  int threads_;
  std::optional<CpuTimes> before_;  // nullopt: the system does not provide it
  bool saved_ = false;              // a checkpoint was written at some time since before_
  bool warned_ = false;
};

/// The warning for the rank that waited most; empty if it waited little. `ranks`: in rank order.
std::string warning_of(std::span<const RankCpus> ranks, int threads, std::int64_t step);

}  // namespace slipway
