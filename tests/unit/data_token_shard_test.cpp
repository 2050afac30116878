#include "io/data/token_shard.hpp"

#include <cstring>

#include "src/core/hash.hpp"
#include "tests/unit/data_support.hpp"

namespace slipway {
namespace {

using namespace data_test;

/// Writes a shard of three documents and returns its path.
fs::path write_shard(const TempFolder& folder, int vocabulary) {
  TokenShardBuilder builder({.split = "train", .lane = "code", .tokenizer_sha256 = "abc", .vocabulary = vocabulary});
  DocumentMetadata metadata{.text_bytes = 11, .license = "MIT", .source = "docs", .origin_path = "a/b.py", .line = 7};
  metadata.content_sha256[31] = 9;
  builder.add(metadata, std::vector<int>{0, 5, vocabulary - 1});
  builder.add({.origin_path = "c.txt"}, std::vector<int>{2});
  builder.add(metadata, std::vector<int>{4, 3});
  builder.write(folder / "s.tokens");
  return folder / "s.tokens";
}

TEST(TokenShard, GivesBackWhatWasAddedIn16And32Bits) {
  for (const int vocabulary : {6, 65'536, 65'537, 200'000}) {
    const TempFolder folder;
    const TokenShard shard(write_shard(folder, vocabulary));
    shard.verify();
    EXPECT_EQ(shard.info().token_bytes(), vocabulary <= 65'536 ? 2 : 4);
    EXPECT_EQ(shard.info().lane, "code");
    EXPECT_EQ(shard.info().tokens, 6);
    EXPECT_EQ(shard.info().documents, 3);
    std::vector<int> ids(6);
    shard.copy(0, 6, ids.data());
    EXPECT_EQ(ids, (std::vector<int>{0, 5, vocabulary - 1, 2, 4, 3}));
    EXPECT_EQ(shard.extent(2).first, 4);
    EXPECT_EQ(shard.extent(2).tokens, 2);
    EXPECT_EQ(shard.metadata(1).origin_path, "c.txt");
    const DocumentMetadata metadata = shard.metadata(2);
    EXPECT_EQ(metadata.license, "MIT");
    EXPECT_EQ(metadata.source, "docs");
    EXPECT_EQ(metadata.origin_path, "a/b.py");
    EXPECT_EQ(metadata.line, 7u);
    EXPECT_EQ(metadata.text_bytes, 11u);
    EXPECT_EQ(metadata.content_sha256[31], 9);
  }
}

/// Writes `value` at `offset` of the payload, which is shorter than a block, and makes its hash fit.
template <class T>
void forge(const fs::path& path, std::size_t offset, T value) {
  std::string bytes = read_file(path, Fault::kData);
  std::uint32_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data() + 12, 4);
  const std::size_t payload_offset = 64 + header_bytes, payload = bytes.size() - payload_offset - 32;
  std::memcpy(bytes.data() + payload_offset + offset, &value, sizeof value);
  bytes.replace(payload_offset + payload, 32, xxh3_hex(bytes.data() + payload_offset, payload));
  std::ofstream(path, std::ios::binary) << bytes;
}

TEST(TokenShard, AnIdWithoutARowIsRefusedThoughItsHashIsRight) {
  const TempFolder folder;
  const fs::path path = write_shard(folder, 6);
  forge(path, 2 * 3, std::uint16_t{6});
  expect_error(Fault::kData, {"s.tokens", "token 3 is 6", "vocabulary of 6"}, [&] { TokenShard(path).verify(); });
  int id = 0;
  expect_error(Fault::kData, {"token 3 is 6"}, [&] { TokenShard(path).copy(0, 1, &id); });
}

TEST(TokenShard, ATableThatDoesNotLieEndToEndIsRefusedThoughItsHashIsRight) {
  constexpr std::size_t kTable = 64, kRow = 72;  // behind the tokens, padded
  const auto expect_refused = [&](std::size_t offset, auto value, const char* substring) {
    const TempFolder folder;
    const fs::path path = write_shard(folder, 6);
    forge(path, kTable + offset, value);
    expect_error(Fault::kData, {"s.tokens", substring}, [&] { const TokenShard shard(path); });
  };
  expect_refused(kRow, std::uint64_t{2}, "document 1 does not begin where the one before it ends");
  expect_refused(kRow + 8, std::uint64_t{0}, "document 1 does not begin");
  expect_refused(8, std::uint64_t{1} << 62, "document 0 does not begin");
  expect_refused(2 * kRow + 8, std::uint64_t{1}, "its documents have 5 tokens, but its header says 6");
  expect_refused(16, ~std::uint64_t{0}, "document 0 is longer than any text");
  expect_refused(64, std::uint32_t{9}, "document 0 refers to a name that is not there");
}

TEST(TokenShard, LiesInTheFileAsItsPageSays) {
  const TempFolder folder;
  const std::string bytes = read_file(write_shard(folder, 6), Fault::kData);
  std::uint32_t version = 0, header_bytes = 0;
  std::memcpy(&version, bytes.data() + 8, 4);
  std::memcpy(&header_bytes, bytes.data() + 12, 4);
  EXPECT_EQ(bytes.substr(0, 8), "SWTOKENS");
  EXPECT_EQ(version, 1u);
  EXPECT_EQ(header_bytes % 64, 0u);
  std::uint16_t tokens[6];
  std::memcpy(tokens, bytes.data() + 64 + header_bytes, sizeof tokens);
  EXPECT_EQ(tokens[2], 5);
  std::uint64_t first = 0;  // of document 1: tokens end on a multiple of 64, rows have 72 bytes
  std::memcpy(&first, bytes.data() + 64 + header_bytes + 64 + 72, 8);
  EXPECT_EQ(first, 3u);
}

TEST(TokenShard, NoticesEveryFlippedByteAndEveryShorterLength) {
  const TempFolder folder;
  const fs::path path = write_shard(folder, 6);
  flip_bits(path, 1, [&](std::size_t offset) {
    SCOPED_TRACE(offset);
    expect_error(Fault::kData, {"s.tokens"}, [&] { TokenShard(path).verify(); });
  });
  const std::string good = read_file(path, Fault::kData);
  for (std::size_t size = 0; size < good.size(); size += 11) {
    fs::resize_file(path, size);
    expect_error(Fault::kData, {"s.tokens"}, [&] { TokenShard{path}; });
    std::ofstream(path, std::ios::binary) << good;
  }
}

TEST(TokenShard, RefusesIdsOutsideTheVocabularyAndDocumentsWithoutTokens) {
  TokenShardBuilder builder({.split = "train", .lane = "text", .tokenizer_sha256 = "abc", .vocabulary = 6});
  expect_error(Fault::kBug, {"vocabulary"}, [&] { builder.add({}, std::vector<int>{6}); });
  expect_error(Fault::kBug, {"vocabulary"}, [&] { builder.add({}, std::vector<int>{-1}); });
  expect_error(Fault::kBug, {"without tokens"}, [&] { builder.add({}, std::vector<int>{}); });
}

}  // namespace
}  // namespace slipway
