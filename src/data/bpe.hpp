// Byte-pair merging of one pre-token of text.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>
#include <vector>

#include "src/data/bpe_pair_table.hpp"

namespace slipway {

/// A merge: two adjacent tokens that become one.
struct Merge {
  int left = 0;
  int right = 0;
  int result = 0;
};

/// The merges of a tokenizer, in rank order. Immutable and thread-safe.
/// Source   Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", 2016, algorithm 1.
class BpeMerges {
 public:
  static constexpr int kNoId = -1;  ///< of a byte without a token: it merges with nothing and is omitted from the ids

  BpeMerges() = default;
  BpeMerges(std::array<int, 256> id_of_byte, std::vector<Merge> merges);

  /// Writes the ids of `pre_token` to `ids`, which has room for one per byte: its bytes, merged lowest rank first,
  /// leftmost first among equals.
  /// Returns  the number of ids.
  /// Cost     O(n log n) in the pre-token's bytes; short pre-tokens by linear scans, which are faster there.
  std::size_t encode(std::string_view pre_token, int* ids) const;

 private:
  std::size_t merge_short(int* ids, std::size_t count) const;
  std::size_t merge_long(int* ids, std::size_t bytes) const;

  std::array<int, 256> id_of_byte_{};
  bool has_missing_bytes_ = false;
  std::vector<Merge> merges_;
  PairTable ranks_;  // pair -> index in merges_
};

}  // namespace slipway
