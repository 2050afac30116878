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
  CpuWatch(Group& world_group, int threads) : world_group_(world_group), threads_(threads) {}

  /// The first step begins now.
  void start() { previous_ = cpu_times(); }

  /// A step has ended. `was_saving`: a checkpoint was being written meanwhile, whose threads also want CPUs.
  /// Returns  the warning, the same on all ranks; empty when there is no problem, or it was reported before.
  /// Ranks    collective.
  std::string check(std::int64_t step, bool was_saving);

 private:
  Group& world_group_;
  int threads_;
  std::optional<CpuTimes> previous_;  // nullopt: the system does not provide it
  bool was_saving_ = false;           // a checkpoint was written at some time since previous_
  bool has_warned_ = false;
};

/// The warning for the rank that waited most; empty if it waited little. `ranks`: in rank order.
std::string cpu_warning(std::span<const RankCpus> ranks, int threads, std::int64_t step);

}  // namespace slipway
