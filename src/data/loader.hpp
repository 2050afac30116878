// The loader: which tokens every sequence of a run holds, as a pure function of the seed.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "src/core/config.hpp"
#include "src/core/json.hpp"
#include "src/data/corpus.hpp"
#include "src/data/packing.hpp"

namespace slipway {

/// What a run is fed. Keys are `data.*`.
struct DataConfig {
  std::string path;                   ///< the data folder, relative to the file that holds this key
  std::string packing = "documents";  ///< or stream
  std::string on_end = "wrap";        ///< a new epoch when the data runs out, or error

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("data.path", self.path,
          {"data folder, made by slipway data prepare; in a file relative to that file", "DIR", Shown::kFirst},
          ResumePolicy::kPath);
    visit("data.packing", self.packing,
          {"documents: attention stays within each document; stream: documents are concatenated", "documents|stream"});
    visit("data.on_end", self.on_end,
          {"at the end of the data: wrap (a new epoch, reshuffled) or error", "wrap|error"});
  }
  void check() const;  ///< Errors: Fault::kConfig naming the key
};

/// How many sequences of `tokens_per_sequence` hold `wanted` tokens of `there`: the fixed validation set's.
std::int64_t sequences_of(std::int64_t wanted, std::int64_t there, int tokens_per_sequence);

/// Such a set in words: `256 sequences of 512 tokens of the validation split of corpus 3f2a5b6c7d8e`.
std::string set_in_words(const Corpus& corpus, Split split, std::int64_t sequences, int tokens_per_sequence);

/// Numbers all sequences of all epochs: sequence g is sequence `g mod S` of epoch `g / S`, S = sequences_per_epoch().
///
/// An epoch lays the documents end to end in an order that follows from (seed, epoch) alone, cuts that into sequences
/// of T tokens, and deals those in a second such order, so each token goes in exactly once an epoch; a sequence also
/// looks at the token after its last one, as a target. The last sequence of an epoch is filled up with weight 0. Ranks,
/// micro-batches and restarts only choose which numbers they ask for, and nothing else moves.
///
/// For a fixed validation set use `Loader(corpus, Split::kValidation, config, T, /*seed=*/0)` and its first sequences:
/// that order is shuffled, so that a part of the split represents all of it, and does not depend on the run's seed.
/// Functions that are const are thread-safe. The corpus must outlive the loader.
class Loader {
 public:
  /// Errors   Fault::kData when the split has no documents; Fault::kConfig as DataConfig::check.
  Loader(const Corpus& corpus, Split split, const DataConfig& config, int tokens_per_sequence, std::uint64_t seed);

  std::int64_t sequences_per_epoch() const { return sequences_per_epoch_; }
  std::int64_t tokens_per_epoch() const { return tokens_; }
  int tokens_per_sequence() const { return tokens_per_sequence_; }

  /// Sequences [first, first + count). Cost: O(count * T), and O(documents) when an epoch is first asked for.
  Batch sequences(std::uint64_t first, int count) const;
  void sequences(std::uint64_t first, int count, Batch& batch) const;  ///< into memory that is there already

  /// How many targets of those sequences have weight 1, without reading them.
  std::int64_t targets(std::uint64_t first, int count) const;

  /// Position of a sequence in its epoch: it begins at token `position_of(sequence) * T` of the concatenated documents.
  std::int64_t position_of(std::uint64_t sequence) const;

  /// Why the next `count` sequences, wanted for `step`, cannot be had: the data ends, and data.on_end says that this is
  /// an error. Empty when they can.
  std::string exhausted_reason(int count, std::int64_t step) const;

  /// Hands out the next `count` sequences for `step` and moves the cursor past them. Says so when an epoch begins.
  /// Returns  the number of the first.
  /// Errors   Fault::kData with exhausted_reason(), unless that is empty; the cursor then stays.
  std::uint64_t next_sequences(int count, std::int64_t step);

  std::uint64_t cursor() const { return cursor_; }  ///< the next sequence to hand out, over all ranks

  /// The cursor and what gives it its meaning, for a checkpoint.
  Json state() const;
  /// Errors   Fault::kData naming what differs: corpus, split, seed, packing or sequence length.
  void restore(const Json& state);

  /// Goes on from the position of another run's loader, whose corpus, seed or sequence length may be others. Where all
  /// are the same, at the very sequence; in the same corpus, as far into the same epoch; in another, at its beginning.
  /// Returns  a sentence that says so. Errors: Fault::kData when `state` is of another version.
  std::string restore_near(const Json& state);

 private:
  /// The order of one epoch.
  struct EpochOrder {
    std::uint64_t epoch = 0;
    std::vector<std::int64_t> starts;  ///< first token of the document at each place; then the number of tokens
  };
  /// Tokens [begin, end) of an epoch's documents laid end to end.
  struct TokenRange {
    std::uint64_t epoch = 0;
    std::int64_t begin = 0, end = 0;
  };
  TokenRange window_of(std::uint64_t sequence) const;
  std::shared_ptr<const EpochOrder> order(std::uint64_t epoch) const;
  std::int64_t document_at(std::uint64_t epoch, std::size_t place) const;
  TokenSpan run(std::uint64_t sequence) const;

  const Corpus& corpus_;
  Split split_;
  std::string packing_name_;
  Packing packing_;
  bool wraps_;
  int tokens_per_sequence_;
  std::uint64_t seed_;
  std::int64_t tokens_;
  std::int64_t sequences_per_epoch_;
  std::uint64_t cursor_ = 0;

  mutable std::mutex orders_mutex_;
  mutable std::vector<std::shared_ptr<const EpochOrder>> orders_;  ///< the last two: a step may lie across two epochs
};

}  // namespace slipway
