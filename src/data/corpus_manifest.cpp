#include "src/data/corpus_manifest.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <unordered_map>

#include "src/core/hash.hpp"

namespace slipway {
namespace {

namespace fs = std::filesystem;

constexpr int kSchemaVersion = 1;
constexpr std::int64_t kBigramPairs = 1 << 24;  // counted at most, from the start: their table stays at 512 MiB or less

double rounded(double value) { return std::round(value * 1e6) / 1e6; }  // beyond this, libraries of hosts may differ

/// Counts of pairs of tokens in a table that doubles. A key is (first << 32 | second) + 1; 0 marks an empty place.
class PairCounts {
 public:
  void add(int first, int second) {
    if (4 * used_ >= 3 * table_.size()) grow();
    const std::uint64_t key = ((static_cast<std::uint64_t>(first) << 32) | static_cast<std::uint32_t>(second)) + 1;
    Entry& entry = find(key);
    if (entry.key == 0) entry.key = key, ++used_;
    ++entry.count;
    ++total_;
  }
  std::int64_t total() const { return total_; }

  /// sum over pairs of p(a, b) log(p(a) / p(a, b)), where p(a) counts a as the first of a pair.
  double conditional_entropy_nats() const {
    std::unordered_map<std::uint64_t, std::uint64_t> firsts;
    for (const Entry& entry : table_)
      if (entry.key != 0) firsts[first_of(entry)] += entry.count;
    double entropy = 0;
    for (const Entry& entry : table_) {  // their order follows from the order of the tokens, so the sum has one order
      if (entry.key == 0) continue;
      const auto count = static_cast<double>(entry.count);
      entropy += count * std::log(static_cast<double>(firsts[first_of(entry)]) / count);
    }
    return total_ == 0 ? 0 : entropy / static_cast<double>(total_);
  }

 private:
  struct Entry {
    std::uint64_t key = 0;
    std::uint64_t count = 0;
  };
  static std::uint64_t first_of(const Entry& entry) { return (entry.key - 1) >> 32; }

  Entry& find(std::uint64_t key) {
    constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15u;  // 2^64 / golden ratio: Knuth's multiplicative hash
    const std::size_t mask = table_.size() - 1;
    std::size_t at = ((key * kGolden) >> 32) & mask;
    while (table_[at].key != 0 && table_[at].key != key) at = (at + 1) & mask;
    return table_[at];
  }
  void grow() {
    std::vector<Entry> smaller(2 * table_.size());
    smaller.swap(table_);
    for (const Entry& entry : smaller)
      if (entry.key != 0) find(entry.key) = entry;
  }

  std::vector<Entry> table_ = std::vector<Entry>(1 << 12);
  std::size_t used_ = 0;
  std::int64_t total_ = 0;
};

using ContentHash = std::array<std::uint8_t, 32>;

/// What is counted by lane and by licence.
struct Tally {
  std::int64_t documents = 0, tokens = 0, text_bytes = 0;

  void add(const DocumentFacts& document, std::int64_t document_tokens) {
    ++documents, tokens += document_tokens, text_bytes += static_cast<std::int64_t>(document.text_bytes);
  }
  Json json() const { return {{"documents", documents}, {"tokens", tokens}, {"bytes", text_bytes}}; }
};

Json json_of(const std::map<std::string, Tally>& tallies) {
  Json json = Json::object();
  for (const auto& [name, tally] : tallies) json[name] = tally.json();
  return json;
}

/// One split, read from its first token to its last.
class SplitSurvey {
 public:
  void read(const TokenShard& shard) {
    shard.verify();
    ids_count_.resize(static_cast<std::size_t>(shard.info().vocabulary));
    const Tally before = all_;
    for (std::int64_t document = 0; document < shard.info().documents; ++document) read(shard, document);
    shards_.push_back({{"file", shard.path().filename().string()},
                       {"lane", shard.info().lane},
                       {"documents", all_.documents - before.documents},
                       {"tokens", all_.tokens - before.tokens},
                       {"bytes", fs::file_size(shard.path())},
                       {"xxh3", xxh3_file(shard.path(), Fault::kData)}});
  }

  const Tally& all() const { return all_; }
  const std::vector<ContentHash>& sort_contents() {
    std::sort(contents_.begin(), contents_.end());
    return contents_;
  }
  std::string sha256() { return hash_.hex(); }

  Json json() {
    std::vector<ContentHash> distinct = sort_contents();
    distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
    std::int64_t unique = 0;
    double entropy = 0;
    for (const std::int64_t count : ids_count_) {
      if (count == 0) continue;
      ++unique;
      entropy += static_cast<double>(count) * std::log(static_cast<double>(all_.tokens) / static_cast<double>(count));
    }
    Json json = all_.json();
    json["distinct_documents"] = distinct.size();
    json["unique_tokens"] = unique;
    json["unigram_entropy_nats"] = rounded(all_.tokens == 0 ? 0 : entropy / static_cast<double>(all_.tokens));
    json["bigram_entropy_nats"] = rounded(pairs_.conditional_entropy_nats());
    json["bigram_pairs"] = pairs_.total();
    json["lanes"] = json_of(lanes_);
    json["licenses"] = json_of(licenses_);
    json["shards"] = shards_;
    return json;
  }

 private:
  void read(const TokenShard& shard, std::int64_t document) {
    const TokenShard::Extent place = shard.extent(document);
    const DocumentFacts facts = shard.facts(document);
    const std::string& lane = shard.info().lane;
    ids_.resize(static_cast<std::size_t>(place.tokens));
    shard.copy(place.first, place.tokens, ids_.data());

    for (const int id : ids_) ++ids_count_[static_cast<std::size_t>(id)];
    for (std::size_t i = 1; i < ids_.size() && pairs_.total() < kBigramPairs; ++i) pairs_.add(ids_[i - 1], ids_[i]);
    all_.add(facts, place.tokens);
    lanes_[lane].add(facts, place.tokens);
    licenses_[facts.license].add(facts, place.tokens);
    contents_.push_back(facts.content_sha256);

    for (const std::string* word : {&lane, &facts.license, &facts.source})
      hash_.add(word->data(), word->size() + 1);  // with its end
    hash_.add(facts.content_sha256.data(), facts.content_sha256.size());
    hash_.add(&place.tokens, sizeof place.tokens);
    const auto stored = shard.raw(place.first, place.tokens);
    hash_.add(stored.data(), stored.size());
  }

  Tally all_;
  std::map<std::string, Tally> lanes_, licenses_;
  std::vector<std::int64_t> ids_count_;
  PairCounts pairs_;
  std::vector<ContentHash> contents_;
  Sha256 hash_;
  Json shards_ = Json::array();
  std::vector<int> ids_;
};

/// How many contents two sorted lists have in common.
std::size_t shared(const std::vector<ContentHash>& train, const std::vector<ContentHash>& validation) {
  std::vector<ContentHash> both;
  std::set_intersection(train.begin(), train.end(), validation.begin(), validation.end(), std::back_inserter(both));
  return both.size();
}

}  // namespace

void refuse_data(const fs::path& file, const std::string& sentence) {
  throw Error(Fault::kData, join(file.string(), ": ", sentence, "; make the folder again with slipway data prepare"));
}

Json survey(const std::string& tokenizer_sha256, std::span<const TokenShard> shards) {
  SplitSurvey train, validation;
  for (const TokenShard& shard : shards) (shard.info().split == "train" ? train : validation).read(shard);
  if (const std::size_t both = shared(train.sort_contents(), validation.sort_contents()); both > 0)
    refuse_data(shards.front().path().parent_path(),
                join(both, " texts of the validation split are also in the training split"));

  Sha256 corpus;
  corpus.add(join("slipway corpus 1 ", tokenizer_sha256, " ", train.sha256(), " ", validation.sha256()));
  return {{"corpus_sha256", corpus.hex()},
          {"documents", train.all().documents + validation.all().documents},
          {"tokens", train.all().tokens + validation.all().tokens},
          {"bytes", train.all().text_bytes + validation.all().text_bytes},
          {"splits", {{"train", train.json()}, {"validation", validation.json()}}}};
}

Json read_corpus_manifest(const fs::path& folder) {
  const fs::path path = folder / kManifestFile, hash_path = folder / kManifestHashFile;
  std::error_code reason;
  const bool there = fs::exists(path, reason);
  if (reason && reason != std::errc::not_a_directory)
    throw Error(Fault::kData, join("cannot look into the data folder ", folder.string(), ": ", reason.message(),
                                   "; mend its permissions, or name another with --data"));
  if (!there)
    throw Error(Fault::kData, join(folder.string(), " is not a data folder (it has no ", kManifestFile,
                                   "); make one with slipway data prepare"));
  const std::string text = read_file(path, Fault::kData);
  if (read_file(hash_path, Fault::kData) != sha256_hex(text) + "\n")
    refuse_data(path, join("does not match ", kManifestHashFile, ", so one of the two was changed"));
  Json manifest = parse_json(text, Where{path}, Fault::kData);
  if (manifest.value("schema", "") != "slipway.data" || manifest.value("schema_version", 0) != kSchemaVersion)
    refuse_data(path, join("its schema is not slipway.data, version ", kSchemaVersion));
  return manifest;
}

Json write_manifest(const fs::path& folder, const Json& manifest) {
  Json whole = {{"schema", "slipway.data"}, {"schema_version", kSchemaVersion}};
  whole.update(manifest);
  const std::string text = to_pretty(whole);
  replace_file(folder / kManifestFile, text);
  replace_file(folder / kManifestHashFile, sha256_hex(text) + "\n");
  return whole;
}

}  // namespace slipway
