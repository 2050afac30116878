// Which CPUs a process may run on.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>

namespace slipway {

/// A set of logical CPUs, a bit each; room for 8192.
using CpuMask = std::array<std::uint64_t, 128>;

/// The CPUs that `process` may use (0: this one); none when the system does not say.
CpuMask cpu_mask(pid_t process = 0);

int count(const CpuMask& mask);

/// How many CPUs this process may use, at least 1: the default number of threads.
int cpus_of_process();

/// Errors   Fault::kConfig for a `runtime.threads` below 0 (0 is automatic) or beyond what any host has.
void check_thread_count(int threads);

}  // namespace slipway
