#include "src/core/cpus.hpp"

#include <sched.h>

#include <algorithm>
#include <bit>

namespace slipway {

CpuMask cpu_mask(pid_t process) {
  CpuMask mask{};
  if (::sched_getaffinity(process, sizeof mask, reinterpret_cast<cpu_set_t*>(mask.data())) != 0) mask = {};
  return mask;
}

int count(const CpuMask& mask) {
  int cpus = 0;
  for (const std::uint64_t word : mask) cpus += std::popcount(word);
  return cpus;
}

int cpus_of_process() { return std::max(1, count(cpu_mask())); }

}  // namespace slipway
