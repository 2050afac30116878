#include "kernels/instrument/meta_memory.hpp"

#include <sys/mman.h>

#include <cstring>
#include <optional>

#include "src/core/allocation_tag.hpp"
#include "src/core/error.hpp"

namespace slipway {
namespace {

constexpr std::uintptr_t kFirst = std::uintptr_t{1} << 60;  // no process has memory there
constexpr int kSmall = 0x3f;                                // of every byte: 0.747 as f32, 0.0005 as f64

bool is_counted(const void* place) { return reinterpret_cast<std::uintptr_t>(place) >= kFirst; }

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
  const std::optional<std::size_t> place = places_.allocate(bytes);
  require(place.has_value(), "MetaMemory: no address space is left");
  void* block = reinterpret_cast<void*>(kFirst + *place);  // NOLINT: an address and nothing more
  const MemoryKind kind = AllocationTag::kind();
  blocks_[block] = {bytes, kind};
  use_.allocate(kind, bytes);
  return block;
}

void MetaMemory::deallocate(void* block) noexcept {
  places_.deallocate(reinterpret_cast<std::uintptr_t>(block) - kFirst);
  const auto found = blocks_.find(block);
  use_.deallocate(found->second.kind, found->second.bytes);
  blocks_.erase(found);
  kept_.erase(block);
}

/// Between counted memory and the host's own, in any direction.
void MetaMemory::copy(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  const auto kept = kept_.find(from);
  if (is_counted(to)) {
    const auto* first = static_cast<const std::byte*>(from);
    if (kept != kept_.end()) kept_[to] = kept->second;
    else if (!is_counted(from) && bytes <= kKeptBytes) kept_[to].assign(first, first + bytes);
    return;
  }
  if (!is_counted(from)) std::memcpy(to, from, bytes);
  else if (kept != kept_.end() && kept->second.size() >= bytes) std::memcpy(to, kept->second.data(), bytes);
  else if (bytes <= kKeptBytes) std::memset(to, kSmall, bytes);
}

MemorySpace& MetaMemory::staging() {
  if (on_host_) return *this;
  return staging_;
}

std::uint64_t MetaMemory::peak_bytes() const { return on_host_ ? at_peak().total() : places_.high_water(); }

void MetaMemory::trim_and_reset_peak() {
  places_.reset_high_water();
  if (blocks_.empty()) kept_.clear();
  use_.reset_peak();
  staging_.reset_peak();
}

}  // namespace slipway
