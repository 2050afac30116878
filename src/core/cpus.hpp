// Which CPUs a process may run on.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace slipway {

/// A set of logical CPUs, one bit each; up to 8192.
using CpuMask = std::array<std::uint64_t, 128>;

/// The affinity mask of `pid` (0: this one); empty when the system call fails.
CpuMask cpu_mask(pid_t pid = 0);

int count(const CpuMask& mask);

/// How many CPUs this process may use, at least 1: those of its mask, or of the quota of its control groups if that is
/// less. The default number of threads.
int available_cpus();

/// The CPU quota of a process's control groups, in CPUs: the least of its own group and those above,
/// version 2 (cpu.max) and version 1 (cpu.cfs_quota_us). nullopt where there is no quota.
/// `groups`: the text of /proc/self/cgroup; `root`: where the hierarchies are mounted.
std::optional<double> cgroup_cpus(const std::string& groups, const std::filesystem::path& root = "/sys/fs/cgroup");

/// `cpus`, or the whole CPUs of this process's quota if those are fewer; at least 1. More threads would all be stopped
/// when the quota of a period is used up.
int clamp_to_quota(int cpus);

/// Errors   Fault::kConfig for a `runtime.threads` below 0 (0 is automatic) or beyond what any host has.
void check_thread_count(int threads);

}  // namespace slipway
