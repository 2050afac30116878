// A hash map from pairs of token ids to small integers, the hot lookup of byte-pair merging.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace slipway {

/// Open addressing with linear probing in a power-of-two table that stays at most half full. No removal.
class PairTable {
 public:
  static constexpr int kNone = -1;

  explicit PairTable(std::size_t expected = 0) : slots_(std::bit_ceil(2 * expected + 16)) {}

  /// The value of the pair, or kNone.
  int find(int left, int right) const {
    const Slot& slot = slots_[find_slot(key_of(left, right))];
    return slot.value;
  }

  /// The value of the pair; inserts `value` if it has none.
  int find_or_insert(int left, int right, int value) {
    const std::uint64_t key = key_of(left, right);
    Slot& slot = slots_[find_slot(key)];
    if (slot.value != kNone) return slot.value;
    slot = {key, value};
    if (2 * ++size_ > slots_.size()) grow();
    return value;
  }

 private:
  struct Slot {
    std::uint64_t key = 0;
    int value = kNone;
  };

  static std::uint64_t key_of(int left, int right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
  }

  /// The slot that holds `key`, or the free one where it belongs.
  std::size_t find_slot(std::uint64_t key) const {
    const std::size_t mask = slots_.size() - 1;
    constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15u;  // 2^64 over the golden ratio: Fibonacci hashing
    std::size_t at = ((key ^ key >> 29) * kGolden) >> (64 - std::countr_zero(slots_.size()));
    while (slots_[at].value != kNone && slots_[at].key != key) at = (at + 1) & mask;
    return at;
  }

  void grow() {
    std::vector<Slot> old(2 * slots_.size());
    old.swap(slots_);
    for (const Slot& slot : old)
      if (slot.value != kNone) slots_[find_slot(slot.key)] = slot;
  }

  std::vector<Slot> slots_;
  std::size_t size_ = 0;
};

}  // namespace slipway
