#include "kernels/cuda_emulation/memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string_view>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define POISON(address, bytes) __asan_poison_memory_region(address, bytes)
#define UNPOISON(address, bytes) __asan_unpoison_memory_region(address, bytes)
#else
#define POISON(address, bytes) static_cast<void>(0)
#define UNPOISON(address, bytes) static_cast<void>(0)
#endif

namespace slipway::cuda_emulation {
namespace {

constexpr std::size_t kAlignment = 256;  // cudaMalloc's
constexpr std::size_t kGap = 256;  // after each allocation: the address sanitizer finds an overrun at once; without it,
                                   // the overrun is found when the allocation is freed
constexpr std::size_t kReservedBytes = std::size_t{64} << 30;
constexpr std::size_t kPage = 4096, kHugePage = std::size_t{2} << 20;

std::size_t round_up(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

/// The total memory of the emulated device; SLIPWAY_HOST_DEVICE_MIB sets it.
std::size_t total_device_bytes() {
  const char* text = std::getenv("SLIPWAY_HOST_DEVICE_MIB");
  return text == nullptr ? std::size_t{8} << 30 : static_cast<std::size_t>(std::strtoull(text, nullptr, 10)) << 20;
}

void on_access_violation(int, siginfo_t* info, void*);

class Arena {
 public:
  static Arena& instance() {
    static Arena& arena = *new Arena;  // never destroyed: static objects may free device memory at exit
    return arena;
  }

  void* allocate(std::size_t bytes) {
    if (use_.allocated + bytes > use_.total) return nullptr;
    const std::size_t padded_bytes = round_up(std::max<std::size_t>(bytes, 1), kAlignment) + kGap;
    std::size_t at = end_;
    const auto free_block = std::find_if(free_blocks_.begin(), free_blocks_.end(),
                                         [&](const auto& one) { return one.second >= padded_bytes; });
    if (free_block != free_blocks_.end()) {
      at = free_block->first;
      const std::size_t remaining = free_block->second - padded_bytes;
      free_blocks_.erase(free_block);
      if (remaining > 0) free_blocks_.emplace(at + padded_bytes, remaining);
    } else {
      if (end_ + padded_bytes > kReservedBytes) return nullptr;
      end_ += padded_bytes;
      if (access_depth_ > 0) set_protection(PROT_READ | PROT_WRITE);
    }
    char* memory = base_ + at;
    blocks_.emplace(at, bytes);
    use_.allocated += bytes;
    use_.peak = std::max(use_.peak, use_.allocated);
    begin_access();
    UNPOISON(memory, padded_bytes);
    std::memset(memory, 0xff, padded_bytes);  // NaN, in every element type
    POISON(memory + bytes, padded_bytes - bytes);
    end_access();
    return memory;
  }

  bool release(void* memory) {
    const auto found = contains(memory) ? blocks_.find(offset(memory)) : blocks_.end();
    if (found == blocks_.end()) return false;
    const auto [at, bytes] = *found;
    const std::size_t padded_bytes = round_up(std::max<std::size_t>(bytes, 1), kAlignment) + kGap;
    begin_access();
    UNPOISON(base_ + at + bytes, padded_bytes - bytes);
    const bool is_intact =
        std::all_of(base_ + at + bytes, base_ + at + padded_bytes, [](char byte) { return byte == '\xff'; });
    POISON(base_ + at, padded_bytes);
    end_access();
    if (!is_intact) {
      std::fprintf(stderr, "CUDA emulation: something was written beyond the end of %zu bytes of device memory\n",
                   bytes);
      std::abort();
    }
    use_.allocated -= bytes;
    blocks_.erase(found);
    add_free_block(at, padded_bytes);
    return true;
  }

  bool contains(const void* memory) const { return memory >= base_ && memory < base_ + kReservedBytes; }
  bool is_range(const void* memory, std::size_t bytes) const {
    if (!contains(memory)) return false;
    const std::size_t at = offset(memory);
    auto block = blocks_.upper_bound(at);
    if (block == blocks_.begin()) return false;
    --block;
    return at + bytes <= block->first + block->second;
  }
  const DeviceUse& use() const { return use_; }

  void begin_access() {
    if (access_depth_++ == 0) set_protection(PROT_READ | PROT_WRITE);
  }
  void end_access() {
    if (--access_depth_ == 0) set_protection(PROT_NONE);
  }

 private:
  Arena() {
    use_.total = total_device_bytes();
    void* memory =
        mmap(nullptr, kReservedBytes + kHugePage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
      std::perror("CUDA emulation: cannot reserve addresses for device memory");
      std::abort();
    }
    base_ = reinterpret_cast<char*>(round_up(reinterpret_cast<std::size_t>(memory), kHugePage));
    madvise(base_, kReservedBytes, MADV_HUGEPAGE);  // so that mprotect changes few page-table entries
    struct sigaction action {};
    action.sa_sigaction = on_access_violation;
    action.sa_flags = SA_SIGINFO | SA_RESETHAND;
    sigaction(SIGSEGV, &action, &previous_handler_);
  }

  std::size_t offset(const void* memory) const {
    return static_cast<std::size_t>(static_cast<const char*>(memory) - base_);
  }
  void set_protection(int protection) {
    if (end_ > 0) mprotect(base_, round_up(end_, kHugePage), protection);
  }
  /// Adds freed memory to the holes and merges neighbours.
  void add_free_block(std::size_t at, std::size_t padded_bytes) {
    auto next = free_blocks_.lower_bound(at);
    if (next != free_blocks_.end() && at + padded_bytes == next->first) {
      padded_bytes += next->second;
      next = free_blocks_.erase(next);
    }
    if (next != free_blocks_.begin()) {
      auto previous = std::prev(next);
      if (previous->first + previous->second == at) {
        previous->second += padded_bytes;
        return;
      }
    }
    free_blocks_.emplace(at, padded_bytes);
  }

  char* base_ = nullptr;
  std::size_t end_ = 0;                             // end of the memory that was ever allocated
  std::map<std::size_t, std::size_t> blocks_;       // offset and bytes of live allocations
  std::map<std::size_t, std::size_t> free_blocks_;  // offset and bytes of freed memory
  DeviceUse use_;
  int access_depth_ = 0;  // nesting depth of begin_access()

 public:
  struct sigaction previous_handler_ {};
};

void on_access_violation(int, siginfo_t* info, void*) {
  const Arena& arena = Arena::instance();
  if (arena.contains(info->si_addr)) {
    constexpr char kText[] =
        "CUDA emulation: the host touched device memory, which only kernels and copies may; copy it first\n";
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kText, sizeof kText - 1);
  }
  sigaction(SIGSEGV, &arena.previous_handler_,
            nullptr);  // the access is repeated and raises the signal in the previous handler
}

bool host_is_managed = false;

struct PinnedRanges {
  std::map<std::uintptr_t, std::size_t> ranges;
  bool contains(const void* memory) const {
    const auto at = reinterpret_cast<std::uintptr_t>(memory);
    auto next = ranges.upper_bound(at);
    if (next == ranges.begin()) return false;
    --next;
    return at < next->first + next->second;
  }
};
PinnedRanges& pinned() {
  static PinnedRanges& all = *new PinnedRanges;
  return all;
}

/// Two adjacent 32-bit values may look like an address of the address sanitizer's heap; the sanitizer knows whether it
/// was ever allocated.
bool is_or_was_allocated([[maybe_unused]] std::uintptr_t word) {
#if defined(__SANITIZE_ADDRESS__)
  if (word >= 0x6000'0000'0000 && word < 0x7000'0000'0000)
    return std::string_view(__asan_locate_address(reinterpret_cast<void*>(word), nullptr, 0, nullptr, nullptr)) ==
           "heap";
#endif
  return true;
}

}  // namespace

void* allocate_device(std::size_t bytes) { return Arena::instance().allocate(bytes); }
bool free_device(void* memory) { return Arena::instance().release(memory); }

void* allocate_pinned(std::size_t bytes) {
  void* memory = std::aligned_alloc(kPage, round_up(std::max<std::size_t>(bytes, 1), kPage));
  if (memory != nullptr) register_pinned(memory, bytes);
  return memory;
}
bool free_pinned(void* memory) {
  if (!unregister_pinned(memory)) return false;
  std::free(memory);
  return true;
}
void register_pinned(const void* memory, std::size_t bytes) {
  pinned().ranges[reinterpret_cast<std::uintptr_t>(memory)] = bytes;
}
bool unregister_pinned(const void* memory) {
  return pinned().ranges.erase(reinterpret_cast<std::uintptr_t>(memory)) == 1;
}

MemoryKind kind_of(const void* memory) {
  if (Arena::instance().contains(memory)) return MemoryKind::kDevice;
  return pinned().contains(memory) ? MemoryKind::kPinned : MemoryKind::kPageable;
}
bool is_device_range(const void* memory, std::size_t bytes) {
  return Arena::instance().contains(memory) ? Arena::instance().is_range(memory, bytes) : host_is_managed;
}
const void* pageable_address_in(const void* argument, std::size_t bytes) {
  if (host_is_managed) return nullptr;
  // Linux maps programs, heaps, stacks and files in this range; lower words are plain values.
  constexpr std::uintptr_t kLowest = 0x5000'0000'0000, kHighest = 0x8000'0000'0000;
  for (std::size_t at = 0; at + sizeof(std::uintptr_t) <= bytes; at += sizeof(std::uintptr_t)) {
    std::uintptr_t word;
    std::memcpy(&word, static_cast<const char*>(argument) + at, sizeof word);
    if (word < kLowest || word >= kHighest) continue;
    const void* address = reinterpret_cast<const void*>(word);
    if (!is_or_was_allocated(word)) continue;
    unsigned char resident;
    if (kind_of(address) == MemoryKind::kPageable &&
        mincore(reinterpret_cast<void*>(word / kPage * kPage), 1, &resident) == 0)
      return address;
  }
  return nullptr;
}
void treat_host_memory_as_managed() { host_is_managed = true; }
DeviceUse device_use() { return Arena::instance().use(); }

DeviceAccess::DeviceAccess() { Arena::instance().begin_access(); }
DeviceAccess::~DeviceAccess() { Arena::instance().end_access(); }

}  // namespace slipway::cuda_emulation
