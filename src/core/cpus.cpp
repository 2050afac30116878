#include "src/core/cpus.hpp"

#include <sched.h>

#include <algorithm>
#include <bit>

#include "src/core/error.hpp"

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

void check_thread_count(int threads) {
  constexpr int kMost = 1024;  // more than any host gives one rank; far more would overflow stacks
  if (threads < 0 || threads > kMost)
    throw Error(Fault::kConfig, join("runtime.threads is ", threads, "; expected 1 to ", kMost,
                                     ", or 0 for what this process may use"));
}

int cpus_of_process() { return std::max(1, count(cpu_mask())); }

}  // namespace slipway
