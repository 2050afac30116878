#include "src/monitor/run_watch.hpp"

#include <algorithm>
#include <cstdio>
#include <sstream>

#include "src/core/log.hpp"

namespace slipway {

void RunWatch::check(const StepReport& report, bool saving, double peak_flops) {
  const std::string stall_warning = stall_.check(report), cpus_warning = cpus_.check(report.step, saving);
  if (world_group_.rank() != 0) return;
  for (const std::string& warning : {stall_warning, cpus_warning})
    if (!warning.empty()) log::warn(warning);
  log_peak(report.step, peak_flops);
}

void RunWatch::log_peak(std::int64_t step, double peak_flops) {
  constexpr double kMinIncrease = 1.05;
  if (logged_flops_ <= 0 || peak_flops < kMinIncrease * logged_flops_) return;
  logged_flops_ = peak_flops;
  char rates[96];
  std::snprintf(rates, sizeof rates, "%.4g GFLOP/s, more than the %.4g that ", peak_flops / 1e9, peak_.flops / 1e9);
  log::info(join("step ", step, ": the run reaches ", rates,
                 peak_.size == 0 ? "runtime.peak_gflops states" : "were measured at the start",
                 ": MFU is relative to what it reaches"));
}

std::vector<std::string> gather_warnings(Group& world_group) {
  std::string local_text;
  for (const std::string& warning : log::warnings()) local_text += warning + "\n";
  std::vector<std::string> warnings;
  for (const std::string& text : world_group.all_gather_text(local_text)) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);)
      if (std::ranges::find(warnings, line) == warnings.end()) warnings.push_back(line);
  }
  return warnings;
}

}  // namespace slipway
