// Where numbers live: the host's memory, or a GPU's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace slipway {

/// Memory of one kind. What is asked of it happens in order with the ops that compute on it.
class MemorySpace {
 public:
  virtual ~MemorySpace() = default;

  virtual bool is_host() const = 0;  ///< whether the host may follow pointers into it
  /// `bytes` on a 64-byte boundary, zeroed. Errors: Fault::kDevice saying what was asked for and what may be lowered.
  virtual void* take(std::size_t bytes) = 0;
  virtual void give_back(void* block) noexcept = 0;
  virtual void zero(void* block, std::size_t bytes) = 0;
  /// From the host into this memory; what `from` points to may change as soon as this returns.
  virtual void write(void* to, const void* from, std::size_t bytes) = 0;
  /// From this memory to the host: complete when it returns.
  virtual void read(void* to, const void* from, std::size_t bytes) = 0;
  /// Within this memory.
  virtual void copy(void* to, const void* from, std::size_t bytes) = 0;
  /// Returns when all that was asked of it, and of the ops that compute on it, has ended.
  virtual void wait() {}
  /// The host's memory that copies to and from this one are fastest with. What is written from there is read later: it
  /// may change only after wait().
  virtual MemorySpace& staging();

  // Copies beside the ops. Where there is no such thing they are made at once, and every mark has been reached.

  /// A place in the order of what was asked.
  using Mark = std::uint64_t;
  virtual Mark mark() { return 0; }  ///< after all that was asked so far
  virtual void wait_for(Mark) {}     ///< returns when it is reached
  virtual void hold_until(Mark) {}   ///< what is asked from now on begins after it
  /// From staging() into this memory, after `after` and beside the ops that were asked for before; what is asked from
  /// now on finds it. What `staged` points to may change when the mark is reached.
  virtual Mark send(void* to, const void* staged, std::size_t bytes, Mark after);
  /// To staging(), after all that was asked so far and beside what is asked from now on; there when the mark is
  /// reached.
  virtual Mark fetch(void* staged, const void* from, std::size_t bytes);

  /// What is taken from now on comes out of one block of so many bytes, while that suffices. The block before it is
  /// given back where nothing of it is in use; else it stays. Errors: as take.
  virtual void reserve(std::uint64_t) {}
  /// Bytes that a run may still take; 0 where that is not known.
  virtual std::uint64_t free_bytes() const { return 0; }
  /// The most bytes that were in use at once since start_anew(), of a reserved block those up to the end of its highest
  /// piece; 0 where that is not counted.
  virtual std::uint64_t peak_bytes() const { return 0; }
  /// What ops keep for themselves is given back, and the peak counts from now.
  virtual void start_anew() {}
};

/// Memory that the host follows pointers into, however it is taken.
class HostSpace : public MemorySpace {
 public:
  bool is_host() const override { return true; }
  void zero(void* block, std::size_t bytes) override;
  void write(void* to, const void* from, std::size_t bytes) override { std::memcpy(to, from, bytes); }
  void read(void* to, const void* from, std::size_t bytes) override { std::memcpy(to, from, bytes); }
  void copy(void* to, const void* from, std::size_t bytes) override { std::memcpy(to, from, bytes); }
};

MemorySpace& host_memory();  ///< the host's, from aligned_block()

/// `bytes` at a multiple of `alignment`, to be freed by std::free; null when there is no memory. Large blocks ask the
/// system for huge pages: weights and activations are walked end to end, and small pages miss the TLB on the way.
void* aligned_block(std::size_t alignment, std::size_t bytes);

}  // namespace slipway
