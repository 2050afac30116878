// Memory that is counted and not allocated: what a dry run computes in.
#pragma once

#include <map>
#include <vector>

#include "src/core/first_fit_allocator.hpp"
#include "src/core/memory_kind.hpp"
#include "src/core/memory_space.hpp"

namespace slipway {

/// Host memory for what may be as large as a model and is not read: pages that nobody touches cost nothing.
class UntouchedMemory final : public HostSpace {
 public:
  void* allocate(std::size_t bytes) override;
  void deallocate(void* block) noexcept override;
  const MemoryUse& use() const { return use_; }
  void reset_peak() { use_.reset_peak(); }

 private:
  struct Block {
    std::size_t bytes;
    MemoryKind kind;
  };
  std::map<void*, Block> blocks_;
  MemoryUse use_;
};

/// Addresses without storage, those of a device or of a host: following one is a fault at once. What is written there
/// in up to kMaxReadableBytes can be read back; other reads of up to that size return small values, and longer reads
/// nothing.
///
/// Units    bytes by kind are those that were asked for; a device's peak_bytes() rounds each block up as cudaMalloc
///          does, and has the gaps between blocks in it.
class MetaMemory final : public MemorySpace {
 public:
  static constexpr std::size_t kMaxReadableBytes = std::size_t{1} << 20;

  explicit MetaMemory(bool on_host) : on_host_(on_host) {}

  bool is_host() const override { return on_host_; }
  void* allocate(std::size_t bytes) override;
  void deallocate(void* block) noexcept override;
  void zero(void*, std::size_t) override {}
  void write(void* to, const void* from, std::size_t bytes) override { copy(to, from, bytes); }
  void read(void* to, const void* from, std::size_t bytes) override { copy(to, from, bytes); }
  void copy(void* to, const void* from, std::size_t bytes) override;
  /// A host's is itself; a device's is real memory, which is counted as well.
  MemorySpace& staging() override;

  std::uint64_t peak_bytes() const override;
  void trim_and_reset_peak() override;
  /// What was in use when that was most since trim_and_reset_peak().
  const BytesByKind& at_peak() const { return use_.at_peak(); }
  const BytesByKind& staging_at_peak() const { return staging_.use().at_peak(); }

 private:
  struct Block {
    std::size_t bytes;
    MemoryKind kind;
  };
  bool on_host_;
  FirstFitAllocator allocator_{std::size_t{1} << 60};
  std::map<const void*, Block> blocks_;
  MemoryUse use_;
  std::map<const void*, std::vector<std::byte>> contents_;
  UntouchedMemory staging_;
};

}  // namespace slipway
