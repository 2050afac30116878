// A memory space: host memory, or a GPU's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace slipway {

/// One kind of memory. Its operations are ordered with the ops that compute on it (the main stream).
class MemorySpace {
 public:
  virtual ~MemorySpace() = default;

  virtual bool is_host() const = 0;  ///< whether the host may dereference pointers into it
  /// Allocates `bytes`, 64-byte aligned and zeroed. Errors: Fault::kDevice naming the size and the keys to lower.
  virtual void* allocate(std::size_t bytes) = 0;
  virtual void deallocate(void* block) noexcept = 0;
  virtual void zero(void* block, std::size_t bytes) = 0;
  /// Copies from the host into this memory; `from` may be changed as soon as this returns.
  virtual void write(void* to, const void* from, std::size_t bytes) = 0;
  /// Copies from this memory to the host; complete when it returns.
  virtual void read(void* to, const void* from, std::size_t bytes) = 0;
  /// Copies within this memory.
  virtual void copy(void* to, const void* from, std::size_t bytes) = 0;
  /// Returns when everything queued so far, copies and ops, is complete.
  virtual void synchronize() {}
  /// Pinned host memory for fast copies to and from this one. Copies from it are asynchronous: it may be changed only
  /// after synchronize().
  virtual MemorySpace& staging();

  // Asynchronous copies. In host memory they are synchronous, and every event is complete.

  /// A point in the main stream, as a CUDA event.
  using Event = std::uint64_t;
  virtual Event record_event() { return 0; }  ///< after everything queued so far
  virtual void wait_event(Event) {}           ///< blocks the host until it is complete
  virtual void stream_wait_event(Event) {}    ///< work queued from now on runs after it
  /// Copies from staging() into this memory, after `after` and concurrently with the ops queued before; work queued
  /// from now on runs after it. `staged` may be changed when the event is complete.
  virtual Event copy_to_device_async(void* to, const void* staged, std::size_t bytes, Event after);
  /// Copies to staging(), after everything queued so far and concurrently with later work; complete with the event.
  virtual Event copy_to_host_async(void* staged, const void* from, std::size_t bytes);

  /// Reserves one block of this size, from which later allocations are served while it suffices. The previous block is
  /// freed if it is unused. Errors: as allocate.
  virtual void reserve(std::uint64_t) {}
  /// Bytes that can still be allocated; 0 where that is not known.
  virtual std::uint64_t free_bytes() const { return 0; }
  /// Peak bytes in use since trim_and_reset_peak(), of a reserved block up to its high-water mark; 0 where that is not
  /// counted.
  virtual std::uint64_t peak_bytes() const { return 0; }
  /// Frees the caches of ops and resets the peak.
  virtual void trim_and_reset_peak() {}
};

/// Memory that the host can dereference, however it is allocated.
class HostSpace : public MemorySpace {
 public:
  bool is_host() const override { return true; }
  void zero(void* block, std::size_t bytes) override;
  void write(void* to, const void* from, std::size_t bytes) override { std::memcpy(to, from, bytes); }
  void read(void* to, const void* from, std::size_t bytes) override { std::memcpy(to, from, bytes); }
  void copy(void* to, const void* from, std::size_t bytes) override { std::memcpy(to, from, bytes); }
};

MemorySpace& host_memory();  ///< the host's, from aligned_allocate()

/// Allocates `bytes` at a multiple of `alignment`, to be freed by std::free; null when there is no memory. Large blocks
/// ask the system for huge pages: weights and activations are read end to end, where small pages cause TLB misses.
void* aligned_allocate(std::size_t alignment, std::size_t bytes);

}  // namespace slipway
