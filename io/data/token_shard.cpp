#include "io/data/token_shard.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>

#include "src/core/hash.hpp"
#include "src/core/json.hpp"
#include "src/core/json_error.hpp"
#include "src/core/json_number.hpp"

namespace slipway {
namespace {

static_assert(std::endian::native == std::endian::little, "shards are little-endian and read in place");

constexpr std::string_view kShardMagic = "SWTOKENS";
constexpr std::uint32_t kShardVersion = 1;
constexpr std::size_t kSectionAlignment = 64;       // a cache line
constexpr std::uint64_t kHashBlockBytes = 1 << 20;  // of the payload per hash, which is small beside it
constexpr std::size_t kHashDigits = 32;             // XXH3-128 in hexadecimal, as xxh128sum prints it

/// The first 64 bytes. The header's JSON follows, then the payload.
struct Preamble {
  std::array<char, 8> magic;
  std::uint32_t version;
  std::uint32_t header_bytes;  ///< a multiple of 64: the JSON is padded with spaces
  std::array<char, kHashDigits> header_hash;
  std::array<char, 16> reserved;  ///< zeros
};
static_assert(sizeof(Preamble) == kSectionAlignment);

/// One row of the document table.
struct DocumentRecord {
  std::uint64_t first;
  std::uint64_t tokens;
  std::uint64_t text_bytes;
  std::array<std::uint8_t, 32> content_sha256;
  std::uint32_t license, source, origin;  ///< indices into the lists of names
  std::uint32_t line;
};
static_assert(sizeof(DocumentRecord) == 72);

std::uint64_t align_up(std::uint64_t bytes) {
  return (bytes + kSectionAlignment - 1) / kSectionAlignment * kSectionAlignment;
}

std::string hash_of(std::span<const std::byte> bytes) { return xxh3_hex(bytes.data(), bytes.size()); }

DocumentRecord read_record(std::span<const std::byte> payload, std::uint64_t documents_offset, std::int64_t document) {
  DocumentRecord record;
  std::memcpy(&record, payload.data() + documents_offset + static_cast<std::uint64_t>(document) * sizeof record,
              sizeof record);
  return record;
}

/// Distinct strings, indexed in the order of their first appearance.
class NameList {
 public:
  std::uint32_t index_of(const std::string& name) {
    const auto [found, is_new] = index_.try_emplace(name, static_cast<std::uint32_t>(names_.size()));
    if (is_new) names_.push_back(name);
    return found->second;
  }
  const std::vector<std::string>& names() const { return names_; }

 private:
  std::map<std::string, std::uint32_t> index_;
  std::vector<std::string> names_;
};

/// Writes the payload and hashes each block of it.
class PayloadWriter {
 public:
  explicit PayloadWriter(FileWriter& file) : file_(file) {}

  void write_section(const void* bytes, std::size_t count) {
    static constexpr char kZeros[kSectionAlignment] = {};
    write_and_hash(static_cast<const char*>(bytes), count);
    write_and_hash(kZeros, align_up(count) - count);
  }

  /// Ends the payload and returns the hashes of all its blocks, concatenated.
  std::string finish() {
    if (block_bytes_ > 0) end_block();
    return hashes_;
  }

 private:
  void write_and_hash(const char* bytes, std::size_t count) {
    file_.write(bytes, count);
    while (count > 0) {
      const std::size_t chunk = std::min<std::size_t>(count, kHashBlockBytes - block_bytes_);
      block_hash_->add(bytes, chunk);
      bytes += chunk, count -= chunk, block_bytes_ += chunk;
      if (block_bytes_ == kHashBlockBytes) end_block();
    }
  }
  void end_block() {
    hashes_ += block_hash_->hex();
    block_hash_ = std::make_unique<Xxh3>();
    block_bytes_ = 0;
  }

  FileWriter& file_;
  std::unique_ptr<Xxh3> block_hash_ = std::make_unique<Xxh3>();
  std::uint64_t block_bytes_ = 0;
  std::string hashes_;
};

}  // namespace

struct TokenShardBuilder::State {
  TokenShardInfo info;
  std::vector<char> tokens;
  std::vector<DocumentRecord> records;
  NameList licenses, sources, origins;
};

TokenShardBuilder::TokenShardBuilder(TokenShardInfo info, std::int64_t expected_tokens)
    : state_(std::make_unique<State>()) {
  state_->tokens.reserve(static_cast<std::size_t>(expected_tokens * info.token_bytes()));
  state_->info = std::move(info);
}
TokenShardBuilder::~TokenShardBuilder() = default;
TokenShardBuilder::TokenShardBuilder(TokenShardBuilder&&) noexcept = default;
const TokenShardInfo& TokenShardBuilder::info() const { return state_->info; }

void TokenShardBuilder::add(const DocumentMetadata& metadata, std::span<const int> ids) {
  TokenShardInfo& info = state_->info;
  require(!ids.empty(), "TokenShardBuilder::add: a document without tokens");
  const std::size_t offset = state_->tokens.size();
  const auto store = [&]<class Stored>(Stored) {
    state_->tokens.resize(offset + ids.size() * sizeof(Stored));
    char* destination = state_->tokens.data() + offset;
    unsigned max_id = 0;  // a negative id converts to a large value here
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const auto stored = static_cast<Stored>(ids[i]);
      std::memcpy(destination + i * sizeof stored, &stored, sizeof stored);
      max_id = std::max(max_id, static_cast<unsigned>(ids[i]));
    }
    require(max_id < static_cast<unsigned>(info.vocabulary), "TokenShardBuilder::add: an id outside the vocabulary");
  };
  if (info.token_bytes() == 2) store(std::uint16_t{});
  else store(std::uint32_t{});
  state_->records.push_back({.first = static_cast<std::uint64_t>(info.tokens),
                             .tokens = ids.size(),
                             .text_bytes = metadata.text_bytes,
                             .content_sha256 = metadata.content_sha256,
                             .license = state_->licenses.index_of(metadata.license),
                             .source = state_->sources.index_of(metadata.source),
                             .origin = state_->origins.index_of(metadata.origin_path),
                             .line = metadata.line});
  info.tokens += static_cast<std::int64_t>(ids.size());
  ++info.documents;
}

void TokenShardBuilder::write(const std::filesystem::path& path) const {
  FileWriter file(path);
  write(file);
  file.close();
}

void TokenShardBuilder::write(FileWriter& file) const {
  const TokenShardInfo& info = state_->info;
  const std::string names = to_line({{"licenses", state_->licenses.names()},
                                     {"sources", state_->sources.names()},
                                     {"origins", state_->origins.names()}});
  std::string header = to_line({{"schema", "slipway.token_shard"},
                                {"schema_version", kShardVersion},
                                {"split", info.split},
                                {"lane", info.lane},
                                {"tokenizer_sha256", info.tokenizer_sha256},
                                {"vocabulary", info.vocabulary},
                                {"token_bytes", info.token_bytes()},
                                {"tokens", info.tokens},
                                {"documents", info.documents},
                                {"names_bytes", names.size()},
                                {"role_bytes", 0},  // reserved for a column of roles, one byte per token
                                {"block_bytes", kHashBlockBytes}});
  header.resize(align_up(header.size()), ' ');

  Preamble preamble{
      .version = kShardVersion, .header_bytes = static_cast<std::uint32_t>(header.size()), .reserved = {}};
  kShardMagic.copy(preamble.magic.data(), kShardMagic.size());
  xxh3_hex(header.data(), header.size()).copy(preamble.header_hash.data(), kHashDigits);

  file.write(&preamble, sizeof preamble);
  file.write(header);
  PayloadWriter payload(file);
  payload.write_section(state_->tokens.data(), state_->tokens.size());
  payload.write_section(state_->records.data(), state_->records.size() * sizeof(DocumentRecord));
  payload.write_section(names.data(), names.size());
  file.write(payload.finish());
  file.flush();
}

void TokenShard::fail(std::string_view message) const {
  throw Error(Fault::kData, join(path_.string(), ": ", message,
                                 "; make the folder again with slipway data prepare, or copy it again"));
}

TokenShard::TokenShard(const std::filesystem::path& path) : path_(path), file_(path, Fault::kData) {
  const std::span<const std::byte> bytes = file_.bytes();
  Preamble preamble{};
  if (bytes.size() < sizeof preamble) fail(join("the token shard was cut off: it has only ", bytes.size(), " bytes"));
  std::memcpy(&preamble, bytes.data(), sizeof preamble);
  if (std::string_view(preamble.magic.data(), preamble.magic.size()) != kShardMagic)
    fail("not a token shard (its first bytes are not SWTOKENS)");
  if (preamble.version != kShardVersion)
    fail(join("the token shard has version ", preamble.version, ", but ", kShardVersion, " is expected"));
  if (preamble.reserved != std::array<char, 16>{} || preamble.header_bytes % kSectionAlignment != 0)
    fail("the token shard's first 64 bytes were changed");
  if (bytes.size() - sizeof preamble < preamble.header_bytes) fail("the token shard was cut off inside its header");
  const auto header_bytes = bytes.subspan(sizeof preamble, preamble.header_bytes);
  if (hash_of(header_bytes) != std::string_view(preamble.header_hash.data(), kHashDigits))
    fail("the token shard's header does not match its hash");

  const Json header = parse_json({reinterpret_cast<const char*>(header_bytes.data()), header_bytes.size()},
                                 FileLocation{path_}, Fault::kData);
  std::uint64_t names_bytes = 0;
  try {
    info_ = {.split = header.at("split"),
             .lane = header.at("lane"),
             .tokenizer_sha256 = header.at("tokenizer_sha256"),
             .vocabulary = checked_count<int>(header.at("vocabulary")),
             .tokens = checked_count<std::int64_t>(header.at("tokens")),
             .documents = checked_count<std::int64_t>(header.at("documents"))};
    names_bytes = checked_count<std::uint64_t>(header.at("names_bytes"));
    if (header.at("role_bytes") != 0 || header.at("block_bytes") != kHashBlockBytes ||
        header.at("token_bytes") != info_.token_bytes())
      fail("the token shard was made by another version of slipway");
  } catch (const nlohmann::json::exception& reason) {
    fail(join("the token shard's header is not as expected (", reason_of(reason), ")"));
  }

  if (info_.vocabulary < 1) fail("the token shard's header says that no ids exist");
  if (std::max({static_cast<std::uint64_t>(info_.tokens), static_cast<std::uint64_t>(info_.documents), names_bytes}) >
      bytes.size())  // so that the products below cannot overflow
    fail("the token shard was cut off: its header counts more than its bytes could hold");

  documents_offset_ = align_up(static_cast<std::uint64_t>(info_.tokens * info_.token_bytes()));
  const std::uint64_t names_offset =
      documents_offset_ + align_up(static_cast<std::uint64_t>(info_.documents) * sizeof(DocumentRecord));
  const std::uint64_t payload_bytes = names_offset + align_up(names_bytes);
  blocks_ = (payload_bytes + kHashBlockBytes - 1) / kHashBlockBytes;
  const std::uint64_t payload_offset = sizeof preamble + preamble.header_bytes;
  const std::uint64_t expected = payload_offset + payload_bytes + blocks_ * kHashDigits;
  if (bytes.size() != expected)
    fail(join("the token shard ", bytes.size() < expected ? "was cut off" : "has extra bytes", ": it has ",
              bytes.size(), " bytes, but its header says ", expected));

  payload_ = bytes.subspan(payload_offset, payload_bytes);
  block_hashes_ = file_.text().substr(payload_offset + payload_bytes);
  block_verified_ = std::make_unique<std::atomic<bool>[]>(blocks_);
  check_blocks(documents_offset_, payload_bytes - documents_offset_);
  const Json names =
      parse_json(file_.text().substr(payload_offset + names_offset, names_bytes), FileLocation{path_}, Fault::kData);
  try {
    names.at("licenses").get_to(licenses_);
    names.at("sources").get_to(sources_);
    names.at("origins").get_to(origins_);
  } catch (const nlohmann::json::exception& reason) {
    fail(join("the token shard's names are not as expected (", reason_of(reason), ")"));
  }
  check_documents();
}

void TokenShard::check_blocks(std::uint64_t first_byte, std::uint64_t bytes) const {
  if (bytes == 0) return;
  for (std::uint64_t block = first_byte / kHashBlockBytes; block <= (first_byte + bytes - 1) / kHashBlockBytes;
       ++block) {
    if (block_verified_[block].load(std::memory_order_relaxed))
      continue;  // two threads may check the same block, with the same result
    const std::uint64_t block_offset = block * kHashBlockBytes;
    const auto content =
        payload_.subspan(block_offset, std::min<std::uint64_t>(kHashBlockBytes, payload_.size() - block_offset));
    if (hash_of(content) != block_hashes_.substr(block * kHashDigits, kHashDigits))
      fail(join("block ", block, " of ", blocks_,
                " does not match its hash, so bytes were changed after it was written"));
    const std::uint64_t ids_end = static_cast<std::uint64_t>(info_.tokens * info_.token_bytes());
    if (block_offset < ids_end)
      check_ids(block_offset, std::min<std::uint64_t>(content.size(), ids_end - block_offset));
    block_verified_[block].store(true, std::memory_order_relaxed);
  }
}

TokenShard::Extent TokenShard::extent(std::int64_t document) const {
  require(document >= 0 && document < info_.documents, "TokenShard::extent: no such document");
  const DocumentRecord record = read_record(payload_, documents_offset_, document);
  return {static_cast<std::int64_t>(record.first), static_cast<std::int64_t>(record.tokens)};
}

DocumentMetadata TokenShard::metadata(std::int64_t document) const {
  require(document >= 0 && document < info_.documents, "TokenShard::metadata: no such document");
  const DocumentRecord record = read_record(payload_, documents_offset_, document);
  return {.content_sha256 = record.content_sha256,
          .text_bytes = record.text_bytes,
          .license = licenses_[record.license],
          .source = sources_[record.source],
          .origin_path = origins_[record.origin],
          .line = record.line};
}

std::span<const std::byte> TokenShard::raw(std::int64_t first, std::int64_t count) const {
  require(first >= 0 && count >= 0 && first + count <= info_.tokens, "TokenShard::raw: outside the shard");
  const auto token_bytes = static_cast<std::uint64_t>(info_.token_bytes());
  const std::uint64_t first_byte = static_cast<std::uint64_t>(first) * token_bytes,
                      bytes = static_cast<std::uint64_t>(count) * token_bytes;
  check_blocks(first_byte, bytes);
  return payload_.subspan(first_byte, bytes);
}

void TokenShard::copy(std::int64_t first, std::int64_t count, int* ids) const {
  const auto widen = [&](const auto* stored) { std::copy(stored, stored + count, ids); };
  const std::byte* bytes = raw(first, count).data();  // on a 64-byte boundary at token 0, so every token is aligned
  if (info_.token_bytes() == 2) widen(reinterpret_cast<const std::uint16_t*>(bytes));
  else widen(reinterpret_cast<const std::uint32_t*>(bytes));
}

void TokenShard::verify() const { check_blocks(0, payload_.size()); }

void TokenShard::check_ids(std::uint64_t first_byte, std::uint64_t bytes) const {
  const auto check = [&]<class Id>(Id) {
    const std::span ids(reinterpret_cast<const Id*>(payload_.data() + first_byte), bytes / sizeof(Id));
    Id max_id = 0;  // branch-free: only damaged files have ids outside the vocabulary
    for (const Id id : ids) max_id = std::max(max_id, id);
    if (max_id >= static_cast<unsigned>(info_.vocabulary))
      fail(join("token ",
                first_byte / sizeof(Id) + static_cast<std::uint64_t>(std::ranges::find(ids, max_id) - ids.begin()),
                " is ", max_id, ", outside the vocabulary of ", info_.vocabulary));
  };
  if (info_.token_bytes() == 2) check(std::uint16_t{});
  else check(std::uint32_t{});
}

void TokenShard::check_documents() const {
  constexpr std::uint64_t kMaxTextBytes = std::uint64_t{1}
                                          << 48;  // of a shard: sums over any number of them fit 64 bits
  std::uint64_t next_token = 0, text_bytes = 0;
  const auto tokens = static_cast<std::uint64_t>(info_.tokens);
  for (std::int64_t document = 0; document < info_.documents; ++document) {
    const DocumentRecord record = read_record(payload_, documents_offset_, document);
    if (record.first != next_token || record.tokens < 1 || record.tokens > tokens - next_token)
      fail(join("document ", document, " does not begin where the one before it ends, or has no tokens"));
    next_token += record.tokens;
    if (record.text_bytes > kMaxTextBytes - text_bytes) fail(join("document ", document, " is longer than any text"));
    text_bytes += record.text_bytes;
    if (record.license >= licenses_.size() || record.source >= sources_.size() || record.origin >= origins_.size())
      fail(join("document ", document, " refers to a name that is not there"));
  }
  if (next_token != tokens) fail(join("its documents have ", next_token, " tokens, but its header says ", tokens));
}

}  // namespace slipway
