// What a model is fed: rows of tokens with their targets, weights and boundaries.
#pragma once

#include <cstdint>
#include <vector>

namespace slipway {

/// B sequences of T tokens. All per-token arrays are [B * T], sequence by sequence.
struct Batch {
  int sequences = 0;                   ///< B
  int tokens = 0;                      ///< T, tokens a sequence
  std::vector<int> ids;                ///< what goes in
  std::vector<int> targets;            ///< what should come next
  std::vector<float> weights;          ///< loss weight of each target; 0 masks it
  std::vector<int> positions;          ///< counted from the start of the document (stream packing: of the sequence)
  std::vector<int> first_key;          ///< first position of the same sequence that this token may attend to
  std::vector<std::uint8_t> resets;    ///< 1 at each document start: where carried state begins anew
  std::vector<std::uint64_t> row_ids;  ///< [B] global sequence number: epoch * sequences in an epoch + index

  int size() const { return sequences * tokens; }
};

}  // namespace slipway
