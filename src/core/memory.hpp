// Memory use of this process and of the machine, as the system reports it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace slipway {

std::uint64_t resident_bytes();       ///< of this process now: VmRSS; 0 where the system does not say
std::uint64_t peak_resident_bytes();  ///< the peak: VmHWM
/// Resets the peak to the current resident size. False where the system does not support it.
bool reset_peak_resident();
/// Memory available for new allocations: the machine's MemAvailable or cgroup_available_bytes, whichever is less; 0
/// where the system does not say.
std::uint64_t available_memory_bytes();
void release_free_memory();  ///< returns the allocator's cached memory to the system

/// The bytes available under the memory limits of a process's control groups: its own group and those above, version 2
/// (memory.max) and version 1 (memory.limit_in_bytes); file pages count as free. nullopt where there is no limit.
/// `groups`: the text of /proc/self/cgroup; `root`: where the hierarchies are mounted.
std::optional<std::uint64_t> cgroup_available_bytes(const std::string& groups,
                                                    const std::filesystem::path& root = "/sys/fs/cgroup");

}  // namespace slipway
