// Emulated device memory: an arena that only kernels and copies may access, while they run.
#pragma once

#include <cstddef>

namespace slipway::cuda_emulation {

/// The kind of memory that a pointer points to.
enum class MemoryKind { kPageable, kPinned, kDevice };

/// Device memory, 256-byte aligned and filled with NaN; null when the device is out of memory.
void* allocate_device(std::size_t bytes);
/// False when nothing was allocated at this address.
bool free_device(void* memory);
void* allocate_pinned(std::size_t bytes);
bool free_pinned(void* memory);
void register_pinned(const void* memory, std::size_t bytes);
bool unregister_pinned(const void* memory);

/// From now on host memory counts as managed (cudaMallocManaged): kernels, copies and the host may all access it.
void treat_host_memory_as_managed();

MemoryKind kind_of(const void* memory);
/// Whether kernels may use [memory, memory + bytes): it lies within one live device allocation, or is managed.
bool is_device_range(const void* memory, std::size_t bytes);
/// The first word of a kernel's argument that is an address of pageable host memory (heap, stack or constants, neither
/// pinned nor managed); null when there is none. A kernel that dereferenced it would fail on a GPU.
const void* pageable_address_in(const void* argument, std::size_t bytes);

struct DeviceUse {
  std::size_t allocated = 0, peak = 0, total = 0;
};
DeviceUse device_use();

/// While one exists, device memory is accessible.
class DeviceAccess {
 public:
  DeviceAccess();
  ~DeviceAccess();
  DeviceAccess(const DeviceAccess&) = delete;
  DeviceAccess& operator=(const DeviceAccess&) = delete;
};

}  // namespace slipway::cuda_emulation
