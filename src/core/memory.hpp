// What this process and this machine hold in memory, as the system says.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace slipway {

std::uint64_t resident_bytes();       ///< of this process now: VmRSS; 0 where the system does not say
std::uint64_t peak_resident_bytes();  ///< the most it was: VmHWM
/// The peak is counted anew from what is resident now. False where the system has no such thing.
bool restart_peak();
/// That could be given to new work: the machine's MemAvailable, or what the limits of this process's control groups
/// leave of it (cgroup_available_bytes), if that is less; 0 where the system does not say.
std::uint64_t available_memory_bytes();
void return_freed_memory();  ///< to the system, what the allocator keeps

/// What the memory limits of a process's control groups leave it: of its own group and of those above, version 2
/// (memory.max) and version 1 (memory.limit_in_bytes), pages of files counted as free. Nothing where there is no limit.
/// `groups`: the text of /proc/self/cgroup; `root`: where the hierarchies are mounted.
std::optional<std::uint64_t> cgroup_available_bytes(const std::string& groups,
                                                    const std::filesystem::path& root = "/sys/fs/cgroup");

}  // namespace slipway
