// Notices that the ranks of a run get fewer CPUs than they have threads.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "comm/group.hpp"
#include "src/core/cpu_wait.hpp"

namespace slipway {

/// What one rank got since the last look.
struct RankCpus {
  double wall_s = 0;
  double cpus = 0;  ///< that it had, on average
  double wait = 0;  ///< share of the time that one of its threads waited for a CPU that others held
};

/// Compares the CPU time of a run's steps with their wall time, and says once when other programs took a part of it.
/// Sleeping, and waiting for messages or the disk, is no sign; being runnable without a CPU is.
class CpuWatch {
 public:
  CpuWatch(Group& all, int threads) : all_(all), threads_(threads) {}

  /// The first step begins now.
  void start() { before_ = cpu_times(); }

  /// A step has ended. `saved`: a checkpoint was being written meanwhile, whose threads also want CPUs.
  /// Returns  the warning, on all ranks alike; empty when there is nothing to say, or it was said.
  /// Ranks    collective.
  std::string check(std::int64_t step, bool saved);

 private:
  Group& all_;
  int threads_;
  std::optional<CpuTimes> before_;  // nothing: the system does not say
  bool saved_ = false;              // at some time since before_
  bool said_ = false;
};

/// The warning for the rank that waited most, empty where it waited little. `ranks`: in rank order.
std::string warning_of(std::span<const RankCpus> ranks, int threads, std::int64_t step);

}  // namespace slipway
