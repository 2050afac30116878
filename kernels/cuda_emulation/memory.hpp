// Device memory on the CPU: an arena that nobody may touch but kernels and copies while they run.
#pragma once

#include <cstddef>

namespace slipway::cuda_emulation {

/// What a pointer points to.
enum class MemoryKind { kPageable, kPinned, kDevice };

/// Device memory on a 256-byte boundary, full of NaN; null when the device has no more.
void* allocate_device(std::size_t bytes);
/// False when nothing was allocated at this address.
bool free_device(void* memory);
void* allocate_pinned(std::size_t bytes);
bool free_pinned(void* memory);
void register_pinned(const void* memory, std::size_t bytes);
bool unregister_pinned(const void* memory);

/// From now on the program's own memory counts as managed (cudaMallocManaged), which kernels, copies and the host
/// share.
void take_program_memory_as_managed();

MemoryKind kind_of(const void* memory);
/// Whether kernels may use [memory, memory + bytes): it lies within one living allocation of the device, or is managed.
bool is_device_range(const void* memory, std::size_t bytes);
/// The first word of a kernel's argument that is the address of memory which only the host has (its heap, its stack,
/// its constants: neither pinned nor managed); null when none is. A kernel that followed it would fail on a GPU.
const void* pageable_address_in(const void* argument, std::size_t bytes);

struct DeviceUse {
  std::size_t allocated = 0, peak = 0, total = 0;
};
DeviceUse device_use();

/// While one lives, device memory may be touched.
class DeviceOpen {
 public:
  DeviceOpen();
  ~DeviceOpen();
  DeviceOpen(const DeviceOpen&) = delete;
  DeviceOpen& operator=(const DeviceOpen&) = delete;
};

}  // namespace slipway::cuda_emulation
