// The mixture: which source each sequence of a run comes from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace slipway {

/// A sequence of a run, as one of its source: `index` counts that source's sequences over all epochs.
struct SourceSequence {
  std::size_t source = 0;
  std::uint64_t index = 0;
  bool operator==(const SourceSequence&) const = default;
};

/// Divides the sequences of a run among sources: of every sum(shares) consecutive sequences, source s gives shares[s],
/// spread evenly. Each source's sequences come in order and without gaps, so that one number, the sequences of the run
/// so far, is the position in every source. A pure function: ranks and restarts agree on it without communication.
///
/// Cost     at() is O(1), count() O(sum(shares)).
class Mixture {
 public:
  /// `shares` in whole sequences: {3, 1} takes three of every four from source 0.
  /// Errors   Fault::kBug without a source, for a share below 1, or for shares that add up to more than 2^20.
  explicit Mixture(const std::vector<int>& shares);

  std::size_t sources() const { return shares_.size(); }
  /// Where sequence `sequence` of the run comes from.
  SourceSequence at(std::uint64_t sequence) const;
  /// How many of the run's first `sequences` come from `source`: the index of that source's next one.
  std::uint64_t count(std::size_t source, std::uint64_t sequences) const;

 private:
  std::vector<int> shares_;
  std::vector<SourceSequence> cycle_;  ///< of sum(shares) sequences; the next rounds repeat it
};

}  // namespace slipway
