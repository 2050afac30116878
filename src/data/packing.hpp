// Packing: how the documents of a source become sequences of tokens, targets and loss weights.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "src/data/batch.hpp"
#include "src/data/corpus.hpp"
#include "src/data/shuffled_order.hpp"

namespace slipway {

/// What attention and targets may cross.
enum class PackingKind {
  kDocuments,  ///< attention and targets stay inside each document
  kStream,     ///< one stream of tokens; attention and targets run across documents
};
PackingKind packing_of(const std::string& name);  ///< Errors: Fault::kConfig, listing both

/// Packs the documents of one split into sequences of T tokens. An epoch lays the documents end to end in their order
/// and cuts that into sequences; the last one is padded with id 0, loss weight 0, in a segment of its own. A sequence
/// also looks at the token after its last one, as a target.
///
/// A part of a document that the sequence before has begun stands at the start of this one as a segment of its own:
/// positions count from 0 there too, and `document_starts` stays 0.
///
/// Functions are thread-safe. The corpus must outlive the packing.
class Packing {
 public:
  /// `documents`: the order of the split's documents in each epoch.
  Packing(const Corpus& corpus, Split split, PackingKind kind, int tokens_per_sequence, const ShuffledOrder& documents);

  std::int64_t tokens_per_epoch() const { return tokens_; }
  std::int64_t sequences_per_epoch() const { return (tokens_ + tokens_per_sequence_ - 1) / tokens_per_sequence_; }

  /// Fills row `row` of `batch` with sequence `index` of `epoch`, in the order of the text; `row_ids` is the caller's.
  /// Shapes   index in [0, sequences_per_epoch()); batch [B, T], cleared.
  /// Cost     O(T), and O(documents) when an epoch is first asked for.
  void fill(std::uint64_t epoch, std::int64_t index, int row, Batch& batch) const;

 private:
  /// The tokens of one sequence and the one after its last, and where documents begin among them.
  struct TokenSpan {
    std::vector<int> tokens;  ///< T + 1 of them; fewer at the end of an epoch
    std::vector<int> starts;  ///< positions in `tokens` at which a document begins, ascending
  };
  /// Where each document of an epoch begins.
  struct EpochLayout {
    std::uint64_t epoch = 0;
    std::vector<std::int64_t> starts;  ///< first token of the document at each position; then the number of tokens
  };
  std::shared_ptr<const EpochLayout> layout(std::uint64_t epoch) const;
  TokenSpan read(std::uint64_t epoch, std::int64_t index) const;

  const Corpus& corpus_;
  Split split_;
  PackingKind kind_;
  int tokens_per_sequence_;
  ShuffledOrder documents_;
  std::int64_t tokens_;

  mutable std::mutex layouts_mutex_;
  mutable std::vector<std::shared_ptr<const EpochLayout>> layouts_;  ///< the last two: a step may lie across two epochs
};

}  // namespace slipway
