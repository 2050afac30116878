#include "io/data/token_shard.hpp"

#include <cstring>

#include "src/core/hash.hpp"
#include "tests/unit/data_support.hpp"

namespace slipway {
namespace {

using namespace data_test;

/// Writes a shard of three documents and returns its path.
fs::path write_shard(const Folder& folder, int vocabulary) {
  TokenShardBuilder builder({.split = "train", .lane = "code", .tokenizer_sha256 = "abc", .vocabulary = vocabulary});
  DocumentMetadata facts{.text_bytes = 11, .license = "MIT", .source = "docs", .origin_path = "a/b.py", .line = 7};
  facts.content_sha256[31] = 9;
  builder.add(facts, std::vector<int>{0, 5, vocabulary - 1});
  builder.add({.origin_path = "c.txt"}, std::vector<int>{2});
  builder.add(facts, std::vector<int>{4, 3});
  builder.write(folder / "s.tokens");
  return folder / "s.tokens";
}

TEST(TokenShard, GivesBackWhatWasAddedIn16And32Bits) {
  for (const int vocabulary : {6, 65'536, 65'537, 200'000}) {
    const Folder folder;
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
    const DocumentMetadata facts = shard.metadata(2);
    EXPECT_EQ(facts.license, "MIT");
    EXPECT_EQ(facts.source, "docs");
    EXPECT_EQ(facts.origin_path, "a/b.py");
    EXPECT_EQ(facts.line, 7u);
    EXPECT_EQ(facts.text_bytes, 11u);
    EXPECT_EQ(facts.content_sha256[31], 9);
  }
}

/// Writes `value` at `at` of the payload, which is shorter than a block, and makes its hash fit.
template <class T>
void forge(const fs::path& path, std::size_t at, T value) {
  std::string bytes = read_file(path, Fault::kData);
  std::uint32_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data() + 12, 4);
  const std::size_t begin = 64 + header_bytes, payload = bytes.size() - begin - 32;
  std::memcpy(bytes.data() + begin + at, &value, sizeof value);
  bytes.replace(begin + payload, 32, xxh3_hex(bytes.data() + begin, payload));
  std::ofstream(path, std::ios::binary) << bytes;
}

TEST(TokenShard, AnIdWithoutARowIsRefusedThoughItsHashIsRight) {
  const Folder folder;
  const fs::path path = write_shard(folder, 6);
  forge(path, 2 * 3, std::uint16_t{6});
  expect_error(Fault::kData, {"s.tokens", "token 3 is 6", "vocabulary of 6"}, [&] { TokenShard(path).verify(); });
  int id = 0;
  expect_error(Fault::kData, {"token 3 is 6"}, [&] { TokenShard(path).copy(0, 1, &id); });
}

TEST(TokenShard, ATableThatDoesNotLieEndToEndIsRefusedThoughItsHashIsRight) {
  constexpr std::size_t kTable = 64, kRow = 72;  // behind the tokens, padded
  const auto refused = [&](std::size_t at, auto value, const char* words) {
    const Folder folder;
    const fs::path path = write_shard(folder, 6);
    forge(path, kTable + at, value);
    expect_error(Fault::kData, {"s.tokens", words}, [&] { const TokenShard shard(path); });
  };
  refused(kRow, std::uint64_t{2}, "document 1 does not begin where the one before it ends");
  refused(kRow + 8, std::uint64_t{0}, "document 1 does not begin");
  refused(8, std::uint64_t{1} << 62, "document 0 does not begin");
  refused(2 * kRow + 8, std::uint64_t{1}, "its documents have 5 tokens, but its header says 6");
  refused(16, ~std::uint64_t{0}, "document 0 is longer than any text");
  refused(64, std::uint32_t{9}, "document 0 refers to a name that is not there");
}

TEST(TokenShard, LiesInTheFileAsItsPageSays) {
  const Folder folder;
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
  const Folder folder;
  const fs::path path = write_shard(folder, 6);
  flip_bytes(path, 1, [&](std::size_t at) {
    SCOPED_TRACE(at);
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
