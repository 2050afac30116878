#include "src/core/cpus.hpp"

#include <sched.h>

#include <algorithm>
#include <bit>
#include <fstream>

#include "src/core/control_groups.hpp"
#include "src/core/error.hpp"

namespace slipway {

CpuMask cpu_mask(pid_t pid) {
  CpuMask mask{};
  if (::sched_getaffinity(pid, sizeof mask, reinterpret_cast<cpu_set_t*>(mask.data())) != 0) mask = {};
  return mask;
}

int count(const CpuMask& mask) {
  int cpus = 0;
  for (const std::uint64_t word : mask) cpus += std::popcount(word);
  return cpus;
}

void check_thread_count(int threads) {
  constexpr int kMax = 1024;  // more than any host gives one rank; far more would overflow stacks
  if (threads < 0 || threads > kMax)
    throw Error(Fault::kConfig,
                join("runtime.threads is ", threads, "; expected 1 to ", kMax, ", or 0 for what this process may use"));
}

std::optional<double> cgroup_cpus(const std::string& groups, const std::filesystem::path& root) {
  std::optional<double> min_cpus;
  for_each_cgroup(groups, "cpu", root, [&](const std::filesystem::path& folder, int version) {
    double quota_us = 0, period_us = 0;
    if (version == 1) {
      if (!(std::ifstream(folder / "cpu.cfs_quota_us") >> quota_us)) return;
      if (!(std::ifstream(folder / "cpu.cfs_period_us") >> period_us)) return;
    } else if (!(std::ifstream(folder / "cpu.max") >> quota_us >> period_us)) {  // "max 100000": no number
      return;
    }
    if (quota_us <= 0 || period_us <= 0) return;
    min_cpus = std::min(min_cpus.value_or(quota_us / period_us), quota_us / period_us);
  });
  return min_cpus;
}

int clamp_to_quota(int cpus) {
  const std::optional<double> quota = cgroup_cpus(process_cgroups());
  return std::max(1, quota && *quota < cpus ? static_cast<int>(*quota) : cpus);
}

int available_cpus() { return clamp_to_quota(count(cpu_mask())); }

}  // namespace slipway
