// Warns when the steps of a run show a problem: stalled training, too few CPUs, a wrong peak.
#pragma once

#include <string>
#include <vector>

#include "kernels/instrument/device_peaks.hpp"
#include "src/monitor/cpu_watch.hpp"
#include "src/monitor/stall_watch.hpp"

namespace slipway {

/// Checks for stalled training, for CPUs that other programs use, and for a peak that the run itself exceeds.
class RunWatch {
 public:
  /// `peak`: of all ranks together, which MFU is relative to.
  RunWatch(int vocabulary, const OptimConfig& optim, Group& world_group, int threads, const GemmPeak& peak)
      : world_group_(world_group),
        stall_(vocabulary, optim),
        cpus_(world_group, threads),
        peak_(peak),
        logged_flops_(peak.flops) {}

  /// The first step begins now.
  void start() { cpus_.start(); }

  /// Logs on rank 0 the problems that a step shows. `saving`: a checkpoint is being written; `peak_flops`: the peak
  /// that MFU is relative to.
  /// Ranks    collective.
  void check(const StepReport& report, bool saving, double peak_flops);

 private:
  void log_peak(std::int64_t step, double peak_flops);

  Group& world_group_;
  StallWatch stall_;
  CpuWatch cpus_;
  GemmPeak peak_;
  double logged_flops_;
};

/// The warnings of all ranks so far, without duplicates, rank 0's first. Ranks: collective.
std::vector<std::string> gather_warnings(Group& world_group);

}  // namespace slipway
