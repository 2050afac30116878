// Byte-pair merging of one piece of text.
#pragma once

#include <array>
#include <string_view>
#include <vector>

#include "src/data/bpe_pair_table.hpp"

namespace slipway {

/// Two neighbouring tokens that become one.
struct Merge {
  int left = 0;
  int right = 0;
  int result = 0;
};

/// The merges of a tokenizer, in rank order. Immutable, so that any thread may ask.
/// Source   Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", 2016, algorithm 1.
class BpeMerges {
 public:
  BpeMerges() = default;
  BpeMerges(std::array<int, 256> id_of_byte, std::vector<Merge> merges);

  /// Appends the ids of `piece`: its bytes, merged lowest rank first, leftmost first among equals.
  /// Cost     O(n log n) in the piece's bytes; short pieces by linear scans, which are faster there.
  void encode(std::string_view piece, std::vector<int>& ids) const;

 private:
  void merge_short(std::vector<int>& ids, std::size_t first) const;
  void merge_long(std::vector<int>& ids, std::size_t first) const;

  std::array<int, 256> id_of_byte_{};
  std::vector<Merge> merges_;
  PairTable ranks_;  // pair -> index in merges_
};

}  // namespace slipway
