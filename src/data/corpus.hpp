// An open data folder: the documents of each split as token ids, and their statistics from `data prepare`.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "io/data/token_shard.hpp"
#include "src/data/tokenizer.hpp"

namespace slipway {

/// The two splits, divided by content hash.
enum class Split { kTrain, kValidation };
inline constexpr std::array kSplits = {Split::kTrain, Split::kValidation};
std::string_view name(Split split);  ///< "train", "validation"

/// Statistics of a split, from the manifest.
struct SplitStatistics {
  std::int64_t documents = 0;
  std::int64_t tokens = 0;
  std::int64_t text_bytes = 0;
  std::int64_t unique_tokens = 0;     ///< ids that occur at all
  double unigram_entropy_nats = 0.0;  ///< of one token: the loss of the best model without context
  double bigram_entropy_nats = 0.0;   ///< of a token, given the one before it in its document
};

/// An opened data folder. Moves, does not copy; functions are thread-safe.
///
/// Opening checks the manifest, the tokenizer and every shard's header, size and document table; tokens are checked
/// as they are touched (io/data/token_shard.hpp), and all at once by verify_corpus().
/// Errors   Fault::kData naming the file and the command that makes a good one.
class Corpus {
 public:
  static Corpus open(const std::filesystem::path& folder);

  const std::filesystem::path& folder() const { return folder_; }
  const std::string& corpus_sha256() const { return corpus_sha256_; }  ///< equal for equal documents and tokenizer
  /// The licenses of all documents, joined as an SPDX expression ("CC0-1.0 AND MIT"); empty when one names none.
  const std::string& license() const { return license_; }
  std::int64_t unlicensed() const { return unlicensed_; }  ///< documents that name no license
  const Tokenizer& tokenizer() const { return tokenizer_; }
  const SplitStatistics& statistics(Split split) const { return split_data(split).statistics; }
  std::int64_t documents(Split split) const { return statistics(split).documents; }
  std::int64_t tokens(Split split) const { return statistics(split).tokens; }

  /// Length of document `document` of a split, BOS and EOS included.
  std::int64_t document_tokens(Split split, std::int64_t document) const;

  /// Copies tokens [first, first + count) of a document to `ids`.
  void copy(Split split, std::int64_t document, std::int64_t first, std::int64_t count, int* ids) const;

  DocumentMetadata document_metadata(Split split, std::int64_t document) const;
  const std::vector<TokenShard>& shards(Split split) const { return split_data(split).shards; }
  /// Drops the pages of the shards read so far from this process's memory, until they are read again.
  void release_pages() const;

 private:
  struct SplitData {
    SplitStatistics statistics;
    std::vector<TokenShard> shards;
    std::vector<std::int64_t> first_document;  ///< of each shard, counted over the split
  };
  struct DocumentLocation {
    const TokenShard* shard;
    std::int64_t document;
  };
  explicit Corpus(Tokenizer tokenizer) : tokenizer_(std::move(tokenizer)) {}
  const SplitData& split_data(Split split) const { return splits_[static_cast<std::size_t>(split)]; }
  DocumentLocation locate(Split split, std::int64_t document) const;

  std::filesystem::path folder_;
  std::string corpus_sha256_;
  std::string license_;
  std::int64_t unlicensed_ = 0;
  Tokenizer tokenizer_;
  std::array<SplitData, 2> splits_;
};

}  // namespace slipway
