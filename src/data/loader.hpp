// The loader: which tokens every sequence of a run holds, as a pure function of the seed.
#pragma once

#include <cstdint>
#include <deque>
#include <string>

#include "src/core/config.hpp"
#include "src/core/json.hpp"
#include "src/data/batch.hpp"
#include "src/data/corpus.hpp"
#include "src/data/mixture.hpp"
#include "src/data/packing.hpp"
#include "src/data/shuffled_order.hpp"

namespace slipway {

/// What a run is fed. Keys are `data.*`.
struct DataConfig {
  std::string path;                   ///< the data folder, relative to the file that holds this key
  std::string packing = "documents";  ///< or stream
  std::string on_end = "wrap";        ///< a new epoch when the data runs out, or error

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("data.path", self.path,
          {"data folder, made by slipway data prepare; in a file relative to that file", "DIR", HelpVisibility::kFirst},
          ResumePolicy::kPath);
    visit("data.packing", self.packing,
          {"documents: attention stays within each document; stream: documents are concatenated", "documents|stream"});
    visit("data.on_end", self.on_end,
          {"at the end of the data: wrap (a new epoch, reshuffled) or error", "wrap|error"});
  }
  void check() const;  ///< Errors: Fault::kConfig naming the key
};

/// How many sequences of `tokens_per_sequence` hold `requested` tokens of `available`: the fixed validation set's.
std::int64_t num_sequences(std::int64_t requested, std::int64_t available, int tokens_per_sequence);

/// Such a set in words: `256 sequences of 512 tokens of the validation split of corpus 3f2a5b6c7d8e`.
std::string describe_sequences(const Corpus& corpus, Split split, std::int64_t sequences, int tokens_per_sequence);

/// Gives every sequence of a run by its number, as order x mixture x packing:
///
///   - the Mixture says which source sequence g of the run comes from, and its index within that source; today
///     there is one source, the split of one corpus, and it is sequence `g mod S` of epoch `g / S`,
///     S = sequences_per_epoch();
///   - the source's ShuffledOrder says which of its sequences comes at that position of the epoch. Consecutive ones
///     are not adjacent in the text: otherwise a long document would fill whole steps by itself, and their gradients
///     would be highly correlated;
///   - the Packing says what that sequence holds: tokens, targets, loss weights, where documents begin. It has an order
///     of its own, of documents.
///
/// All three are pure functions of the seed: each token goes in exactly once an epoch, and ranks, micro-batches and
/// restarts only choose which numbers they ask for.
///
/// For a fixed validation set use `Loader(corpus, Split::kValidation, config, T, /*seed=*/0)` and its first sequences:
/// that order is shuffled, so that a part of the split represents all of it, and does not depend on the run's seed.
/// Functions that are const are thread-safe. The corpus must outlive the loader.
class Loader {
 public:
  /// Errors   Fault::kData when the split has no documents; Fault::kConfig as DataConfig::check.
  Loader(const Corpus& corpus, Split split, const DataConfig& config, int tokens_per_sequence, std::uint64_t seed);

  std::int64_t sequences_per_epoch() const { return source().order.count(); }
  std::int64_t tokens_per_epoch() const { return source().packing.tokens_per_epoch(); }
  int tokens_per_sequence() const { return tokens_per_sequence_; }

  /// Sequences [first, first + count). Cost: O(count * T), and O(documents) when an epoch is first asked for.
  Batch sequences(std::uint64_t first, int count) const;
  void sequences(std::uint64_t first, int count, Batch& batch) const;  ///< into memory that is there already

  /// Position of a sequence in its epoch: it begins at token `index_in_epoch(sequence) * T` of the concatenated
  /// documents.
  std::int64_t index_in_epoch(std::uint64_t sequence) const;

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
  std::string restore_nearest(const Json& state);

 private:
  /// What sequences are taken from: packed documents, dealt in an order of their own.
  struct Source {
    Source(const Corpus& corpus, Split split, PackingKind kind, int tokens_per_sequence, std::uint64_t seed);
    Packing packing;
    ShuffledOrder order;  ///< of the packing's sequences

    std::uint64_t epoch_of(std::uint64_t index) const { return index / static_cast<std::uint64_t>(order.count()); }
    /// Which sequence of the packing comes as number `index`, counted over all epochs.
    std::int64_t at(std::uint64_t index) const;
  };
  const Source& source() const { return sources_.front(); }

  const Corpus& corpus_;
  Split split_;
  std::string packing_name_;
  bool wraps_;
  int tokens_per_sequence_;
  std::uint64_t seed_;
  std::deque<Source> sources_;  ///< not a vector, since a source does not move
  Mixture mixture_;
  std::uint64_t cursor_ = 0;
};

}  // namespace slipway
