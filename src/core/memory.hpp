// What this process and this machine hold in memory, as the system says.
#pragma once

#include <cstdint>

namespace slipway {

std::uint64_t resident_bytes();       ///< of this process now: VmRSS; 0 where the system does not say
std::uint64_t peak_resident_bytes();  ///< the most it was: VmHWM
/// The peak is counted anew from what is resident now. False where the system has no such thing.
bool restart_peak();
std::uint64_t available_memory_bytes();  ///< that the machine could give to new work: MemAvailable
void return_freed_memory();              ///< to the system, what the allocator keeps

}  // namespace slipway
