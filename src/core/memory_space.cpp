#include "src/core/memory_space.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "src/core/allocation_tag.hpp"
#include "src/core/error.hpp"
#include "src/core/memory.hpp"

namespace slipway {
namespace {

constexpr std::size_t kAlignment = 64;  // a cache line, and the widest vector

std::string out_of_memory(std::size_t bytes) {
  return join("out of memory for ", AllocationTag::current(), ": ", bytes,
              " bytes are asked for; to train, lower train.micro_batch or train.sequence, or set train.recompute = "
              "blocks");
}

/// Linux overcommits: it grants more memory than there is, and kills a process that then writes to it.
void check_available(std::size_t bytes) {
  constexpr std::size_t kLarge = std::size_t{256} << 20;  // smaller allocations are not checked against free memory
  if (bytes < kLarge) return;
  const std::uint64_t available = available_memory_bytes();
  if (available != 0 && bytes > available)
    throw Error(Fault::kDevice, join(out_of_memory(bytes), "; ", available, " are free"));
}

class HostMemory final : public HostSpace {
 public:
  void* allocate(std::size_t bytes) override {
    const std::size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    check_available(rounded);
    void* block = aligned_allocate(kAlignment, rounded);
    if (block == nullptr) throw Error(Fault::kDevice, out_of_memory(rounded));
    zero(block, rounded);
    return block;
  }
  void deallocate(void* block) noexcept override { std::free(block); }
};

}  // namespace

/// Zeroes a large block with several threads: the first write to a fresh page makes the kernel clear it, which takes
/// six times as long as the write.
void HostSpace::zero(void* block, std::size_t bytes) {
  constexpr std::size_t kChunk = std::size_t{16} << 20;
  const auto chunks = static_cast<std::int64_t>((bytes + kChunk - 1) / kChunk);
  if (chunks <= 1) {
    std::memset(block, 0, bytes);
    return;
  }
#pragma omp parallel for schedule(static)
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
    const std::size_t first = static_cast<std::size_t>(chunk) * kChunk;
    std::memset(static_cast<char*>(block) + first, 0, std::min(kChunk, bytes - first));
  }
}

void* aligned_allocate(std::size_t alignment, std::size_t bytes) {
  constexpr std::size_t kHugePage = std::size_t{2} << 20;
  if (bytes < 2 * kHugePage) return std::aligned_alloc(alignment, bytes);
  // The size is not rounded up: the part after the last whole huge page has small pages.
  void* block = nullptr;
  if (posix_memalign(&block, kHugePage, bytes) != 0) return nullptr;
  madvise(block, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);  // only a hint: without support, pages stay small
  return block;
}

MemorySpace& MemorySpace::staging() { return host_memory(); }

MemorySpace::Event MemorySpace::copy_to_device_async(void* to, const void* staged, std::size_t bytes, Event) {
  write(to, staged, bytes);
  return 0;
}
MemorySpace::Event MemorySpace::copy_to_host_async(void* staged, const void* from, std::size_t bytes) {
  read(staged, from, bytes);
  return 0;
}

MemorySpace& host_memory() {
  static HostMemory& singleton = *new HostMemory;  // never destroyed: static objects may free memory at exit
  return singleton;
}

}  // namespace slipway
