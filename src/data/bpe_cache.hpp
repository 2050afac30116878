// Remembers the ids of short pieces: text repeats itself, and a hit costs less than merging.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace slipway {

/// A direct-mapped cache in one megabyte, about what the second-level cache of a core holds. One per thread; tokenizers
/// share it, told apart by `owner`.
class PieceCache {
 public:
  /// The ids of `piece` from here, or else from `encode(piece, ids)`; appended to `ids`.
  template <class Encode>
  void append(std::uint32_t owner, std::string_view piece, std::vector<int>& ids, Encode&& encode) {
    if (piece.size() > kBytes) return encode(piece, ids);
    const Key key = key_of(piece);
    Slot& slot = slots_[hash(key) % kSlots];
    if (slot.owner == owner && slot.key == key) {
      ids.insert(ids.end(), slot.ids.begin(), slot.ids.begin() + slot.count);
      return;
    }
    const std::size_t first = ids.size();
    encode(piece, ids);
    if (ids.size() - first > kIds) return;
    slot.key = key;
    slot.owner = owner;
    slot.count = static_cast<std::uint32_t>(ids.size() - first);
    std::copy(ids.begin() + static_cast<std::ptrdiff_t>(first), ids.end(), slot.ids.begin());
  }

 private:
  static constexpr std::size_t kSlots = 1 << 14, kBytes = 23, kIds = 8;
  using Key = std::array<std::uint64_t, 3>;  // the piece, zeros, and its length in the last byte
  struct alignas(64) Slot {                  // one cache line
    Key key{};
    std::uint32_t owner = 0;  // 0: free
    std::uint32_t count = 0;
    std::array<int, kIds> ids{};
  };
  static_assert(sizeof(Slot) == 64);

  static Key key_of(std::string_view piece) {
    std::array<char, sizeof(Key)> bytes{};
    std::memcpy(bytes.data(), piece.data(), piece.size());
    bytes.back() = static_cast<char>(piece.size());
    Key key;
    std::memcpy(key.data(), bytes.data(), sizeof key);
    return key;
  }

  static std::uint64_t hash(const Key& key) {  // multiply and fold; the constants are odd and otherwise arbitrary
    const std::uint64_t mixed = (key[0] ^ 0x9E3779B97F4A7C15u) * 0xFF51AFD7ED558CCDu ^
                                (key[1] + 0x2545F4914F6CDD1Du) * 0xC4CEB9FE1A85EC53u ^ key[2] * 0xD6E8FEB86659FD93u;
    return mixed ^ mixed >> 29 ^ mixed >> 47;
  }

  std::unique_ptr<Slot[]> slots_ = std::make_unique<Slot[]>(kSlots);
};

}  // namespace slipway
