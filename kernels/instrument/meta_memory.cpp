#include "kernels/instrument/meta_memory.hpp"

#include <sys/mman.h>

#include <cstring>
#include <optional>

#include "src/core/allocation_tag.hpp"
#include "src/core/error.hpp"

namespace slipway {
namespace {

constexpr std::uintptr_t kBaseAddress = std::uintptr_t{1} << 60;  // no process has memory there
constexpr int kFillByte = 0x3f;                                   // of every byte: 0.747 as f32, 0.0005 as f64

bool is_meta_address(const void* address) { return reinterpret_cast<std::uintptr_t>(address) >= kBaseAddress; }

}  // namespace

void* UntouchedMemory::allocate(std::size_t bytes) {
  void* block = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  require(block != MAP_FAILED, "UntouchedMemory: no address space is left");
  const MemoryKind kind = AllocationTag::kind();
  blocks_[block] = {bytes, kind};
  use_.allocate(kind, bytes);
  return block;
}

void UntouchedMemory::deallocate(void* block) noexcept {
  const auto found = blocks_.find(block);
  use_.deallocate(found->second.kind, found->second.bytes);
  munmap(block, found->second.bytes);
  blocks_.erase(found);
}

void* MetaMemory::allocate(std::size_t bytes) {
  const std::optional<std::size_t> offset = allocator_.allocate(bytes);
  require(offset.has_value(), "MetaMemory: no address space is left");
  void* block = reinterpret_cast<void*>(kBaseAddress + *offset);  // NOLINT: an address and nothing more
  const MemoryKind kind = AllocationTag::kind();
  blocks_[block] = {bytes, kind};
  use_.allocate(kind, bytes);
  return block;
}

void MetaMemory::deallocate(void* block) noexcept {
  allocator_.deallocate(reinterpret_cast<std::uintptr_t>(block) - kBaseAddress);
  const auto found = blocks_.find(block);
  use_.deallocate(found->second.kind, found->second.bytes);
  blocks_.erase(found);
  contents_.erase(block);
}

/// Between counted memory and the host's own, in any direction.
void MetaMemory::copy(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  const auto contents = contents_.find(from);
  if (is_meta_address(to)) {
    const auto* first = static_cast<const std::byte*>(from);
    if (contents != contents_.end()) contents_[to] = contents->second;
    else if (!is_meta_address(from) && bytes <= kMaxReadableBytes) contents_[to].assign(first, first + bytes);
    return;
  }
  if (!is_meta_address(from)) std::memcpy(to, from, bytes);
  else if (contents != contents_.end() && contents->second.size() >= bytes)
    std::memcpy(to, contents->second.data(), bytes);
  else if (bytes <= kMaxReadableBytes) std::memset(to, kFillByte, bytes);
}

MemorySpace& MetaMemory::staging() {
  if (on_host_) return *this;
  return staging_;
}

std::uint64_t MetaMemory::peak_bytes() const { return on_host_ ? at_peak().total() : allocator_.high_water(); }

void MetaMemory::trim_and_reset_peak() {
  allocator_.reset_high_water();
  if (blocks_.empty()) contents_.clear();
  use_.reset_peak();
  staging_.reset_peak();
}

}  // namespace slipway
