// Warns when the steps of a run show a problem: frozen training, CPUs taken by others, a wrong peak.
#pragma once

#include <string>
#include <vector>

#include "kernels/instrument/device_peaks.hpp"
#include "src/monitor/cpu_watch.hpp"
#include "src/monitor/stall_watch.hpp"

namespace slipway {

/// Frozen training, CPUs that other programs hold, and a peak that the run itself exceeds.
class RunWatch {
 public:
  /// `peak`: of all ranks together; MFU is relative to it.
  RunWatch(int vocabulary, const OptimConfig& optim, Group& all, int threads, const GemmPeak& peak)
      : all_(all), frozen_(vocabulary, optim), cpus_(all, threads), peak_(peak), said_flops_(peak.flops) {}

  /// The first step begins now.
  void start() { cpus_.start(); }

  /// Logs on rank 0 what a step shows. `saving`: a checkpoint is being written; `peak_flops`: what MFU is relative to.
  /// Ranks    collective.
  void check(const StepReport& report, bool saving, double peak_flops);

 private:
  void log_peak(std::int64_t step, double peak_flops);

  Group& all_;
  StallWatch frozen_;
  CpuWatch cpus_;
  GemmPeak peak_;
  double said_flops_;
};

/// The warnings of all ranks so far, each sentence once, rank 0's first. Ranks: collective.
std::vector<std::string> warnings_of_all(Group& all);

}  // namespace slipway
