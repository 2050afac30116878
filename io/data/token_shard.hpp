// Token shards: documents as token ids in one memory-mapped file that contains its own hashes
// (docs/formats/token_shard.md).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/core/file.hpp"

namespace slipway {

/// The header of a shard.
struct TokenShardInfo {
  std::string split;             ///< train or validation
  std::string lane;              ///< all documents of a shard have one lane, so that a reader can refuse other lanes
  std::string tokenizer_sha256;  ///< Tokenizer::sha256() of the tokenizer that made the ids
  int vocabulary = 0;            ///< ids are below it; it determines their type: u16 up to 65,536, else u32
  std::int64_t tokens = 0;
  std::int64_t documents = 0;

  int token_bytes() const { return vocabulary <= 65'536 ? 2 : 4; }
};

/// The metadata of one document.
struct DocumentMetadata {
  std::array<std::uint8_t, 32> content_sha256{};  ///< of the text's bytes
  std::uint64_t text_bytes = 0;
  std::string license;
  std::string source;
  std::string origin_path;
  std::uint32_t line = 1;  ///< of the input file at which the text begins
};

/// Collects documents in memory and writes them as one shard.
class TokenShardBuilder {
 public:
  /// The counts of `info` must be 0. Reserves address space for `expected_tokens`; pages are committed as they fill.
  explicit TokenShardBuilder(TokenShardInfo info, std::int64_t expected_tokens = 0);
  ~TokenShardBuilder();
  TokenShardBuilder(TokenShardBuilder&&) noexcept;

  /// Errors   Fault::kBug for an id outside the vocabulary and for a document without tokens.
  void add(const DocumentMetadata& metadata, std::span<const int> ids);
  const TokenShardInfo& info() const;

  /// Writes and fsyncs the file. Errors: Fault::kStorage.
  void write(const std::filesystem::path& path) const;
  /// Writes the shard to `file` and flushes its buffer; the caller closes (fsyncs) it, possibly concurrently with other
  /// work.
  void write(FileWriter& file) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// A shard opened for reading. Functions are thread-safe.
///
/// Opening checks the header, the exact size of the file and the document table; the first access to a block of tokens
/// checks its hash and that its ids are below the vocabulary, so that no flipped byte and no id without an embedding
/// row reaches a model.
/// Errors   Fault::kData naming the file when anything in it is missing, truncated or changed.
class TokenShard {
 public:
  explicit TokenShard(const std::filesystem::path& path);

  const TokenShardInfo& info() const { return info_; }
  const std::filesystem::path& path() const { return path_; }

  /// The tokens of a document.
  struct Extent {
    std::int64_t first = 0;  ///< position of its first token in the shard
    std::int64_t tokens = 0;
  };
  Extent extent(std::int64_t document) const;
  DocumentMetadata metadata(std::int64_t document) const;

  /// Copies tokens [first, first + count) to `ids`.
  void copy(std::int64_t first, std::int64_t count, int* ids) const;

  /// The stored bytes of tokens [first, first + count), little-endian, token_bytes() each.
  std::span<const std::byte> raw(std::int64_t first, std::int64_t count) const;

  void release_pages() const { file_.release_pages(); }  ///< MappedFile::release_pages()

  /// Reads every byte and checks all hashes, and that all ids are below the vocabulary.
  void verify() const;

 private:
  [[noreturn]] void fail(std::string_view message) const;
  void check_blocks(std::uint64_t first_byte, std::uint64_t bytes) const;  // of the payload
  void check_ids(std::uint64_t first_byte, std::uint64_t bytes) const;     // of the payload
  void check_documents() const;

  std::filesystem::path path_;
  MappedFile file_;
  TokenShardInfo info_;
  std::span<const std::byte> payload_;
  std::uint64_t documents_offset_ = 0;  // of the document table, in bytes from the start of the payload
  std::uint64_t blocks_ = 0;
  std::string_view block_hashes_;
  std::vector<std::string> licenses_, sources_, origins_;
  mutable std::unique_ptr<std::atomic<bool>[]> block_verified_;  // one per block
};

}  // namespace slipway
