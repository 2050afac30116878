#include "src/data/corpus_manifest.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <map>

#include "src/core/hash.hpp"
#include "src/core/workers.hpp"
#include "src/data/corpus.hpp"
#include "src/data/token_counts.hpp"

namespace slipway {
namespace {

namespace fs = std::filesystem;

constexpr int kSchemaVersion = 1;

double round_to_micro(double value) {
  return std::round(value * 1e6) / 1e6;
}  // beyond this, libraries of hosts may differ

using ContentHash = std::array<std::uint8_t, 32>;

/// Counts by lane and by license.
struct Counts {
  std::int64_t documents = 0, tokens = 0, text_bytes = 0;

  void add(const DocumentMetadata& document, std::int64_t document_tokens) {
    ++documents, tokens += document_tokens, text_bytes += static_cast<std::int64_t>(document.text_bytes);
  }
  Json json() const { return {{"documents", documents}, {"tokens", tokens}, {"bytes", text_bytes}}; }
};

Json to_json(const std::map<std::string, Counts>& counts_by_name) {
  Json json = Json::object();
  for (const auto& [name, counts] : counts_by_name) json[name] = counts.json();
  return json;
}

/// One split, read from its first token to its last.
class SplitSummary {
 public:
  explicit SplitSummary(std::vector<const TokenShard*> shards) : shards_(std::move(shards)) {}

  void read(int threads) {
    // Verify first, so that damage is reported as such.
    ContextCounts contexts;
    const std::function<void()> jobs[] = {[&] { verify(), contexts = ContextCounts(shards_); }, [&] { add_counts(); }};
    run_jobs(jobs, threads);
    counts_ = count_tokens(shards_, contexts, threads);
    std::sort(contents_.begin(), contents_.end());
  }

  const Counts& total() const { return total_; }
  const std::vector<ContentHash>& sorted_contents() const { return contents_; }
  std::string sha256() { return hash_.hex(); }

  Json json() const {
    std::vector<ContentHash> distinct = contents_;
    distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
    Json json = total_.json();
    json["distinct_documents"] = distinct.size();
    json["unique_tokens"] = counts_.unique;
    json["unigram_entropy_nats"] = round_to_micro(counts_.entropy_nats);
    json["bigram_entropy_nats"] = round_to_micro(counts_.bigram_entropy_nats);
    json["bigram_pairs"] = counts_.pairs;
    json["lanes"] = to_json(lanes_);
    json["licenses"] = to_json(licenses_);
    json["shards"] = Json::array();
    for (std::size_t i = 0; i < shards_.size(); ++i)
      json["shards"].push_back({{"file", shards_[i]->path().filename().string()},
                                {"lane", shards_[i]->info().lane},
                                {"documents", shards_[i]->info().documents},
                                {"tokens", shards_[i]->info().tokens},
                                {"bytes", fs::file_size(shards_[i]->path())},
                                {"xxh3", file_hashes_[i]}});
    return json;
  }

 private:
  void verify() {
    for (const TokenShard* shard : shards_) {
      shard->verify();
      file_hashes_.push_back(xxh3_file(shard->path(), Fault::kData));
    }
  }

  void add_counts() {
    for (const TokenShard* shard : shards_)
      for (std::int64_t document = 0; document < shard->info().documents; ++document) add_counts(*shard, document);
  }

  void add_counts(const TokenShard& shard, std::int64_t document) {
    const TokenShard::Extent tokens = shard.extent(document);
    const DocumentMetadata metadata = shard.metadata(document);
    const std::string& lane = shard.info().lane;
    total_.add(metadata, tokens.tokens);
    lanes_[lane].add(metadata, tokens.tokens);
    licenses_[metadata.license].add(metadata, tokens.tokens);
    contents_.push_back(metadata.content_sha256);

    for (const std::string* field : {&lane, &metadata.license, &metadata.source})
      hash_.add(field->data(), field->size() + 1);  // with its end
    hash_.add(metadata.content_sha256.data(), metadata.content_sha256.size());
    hash_.add(&tokens.tokens, sizeof tokens.tokens);
    const auto stored = shard.raw(tokens.first, tokens.tokens);
    hash_.add(stored.data(), stored.size());
  }

  std::vector<const TokenShard*> shards_;
  std::vector<std::string> file_hashes_;  // by shard
  Counts total_;
  std::map<std::string, Counts> lanes_, licenses_;
  std::vector<ContentHash> contents_;
  Sha256 hash_;
  TokenCounts counts_;
};

/// The number of contents that are in both sorted lists.
std::size_t count_shared(const std::vector<ContentHash>& train, const std::vector<ContentHash>& validation) {
  std::vector<ContentHash> count;
  std::set_intersection(train.begin(), train.end(), validation.begin(), validation.end(), std::back_inserter(count));
  return count.size();
}

}  // namespace

void refuse_data(const fs::path& file, const std::string& message) {
  throw Error(Fault::kData, join(file.string(), ": ", message, "; make the folder again with slipway data prepare"));
}

Json summarize_shards(const std::string& tokenizer_sha256, std::span<const TokenShard> shards, int threads) {
  const auto shards_of = [&](Split split) {
    std::vector<const TokenShard*> found;
    for (const TokenShard& shard : shards)
      if (shard.info().split == name(split)) found.push_back(&shard);
    return found;
  };
  SplitSummary train(shards_of(Split::kTrain)), validation(shards_of(Split::kValidation));
  train.read(threads);
  validation.read(threads);
  if (const std::size_t count = count_shared(train.sorted_contents(), validation.sorted_contents()); count > 0)
    refuse_data(shards.front().path().parent_path(),
                join(count, " texts of the validation split are also in the training split"));

  Sha256 corpus;
  corpus.add(join("slipway corpus 1 ", tokenizer_sha256, " ", train.sha256(), " ", validation.sha256()));
  return {{"corpus_sha256", corpus.hex()},
          {"documents", train.total().documents + validation.total().documents},
          {"tokens", train.total().tokens + validation.total().tokens},
          {"bytes", train.total().text_bytes + validation.total().text_bytes},
          {"splits", {{"train", train.json()}, {"validation", validation.json()}}}};
}

Json read_corpus_manifest(const fs::path& folder) {
  const fs::path path = folder / kManifestFile, hash_path = folder / kManifestHashFile;
  std::error_code reason;
  const bool has_manifest = fs::exists(path, reason);
  if (reason && reason != std::errc::not_a_directory)
    throw Error(Fault::kData, join("cannot look into the data folder ", folder.string(), ": ", reason.message(),
                                   "; mend its permissions, or name another with --data"));
  if (!has_manifest)
    throw Error(Fault::kData, join(folder.string(), " is not a data folder (it has no ", kManifestFile,
                                   "); make one with slipway data prepare"));
  const std::string text = read_file(path, Fault::kData);
  if (read_file(hash_path, Fault::kData) != sha256_hex(text) + "\n")
    refuse_data(path, join("does not match ", kManifestHashFile, ", so one of the two was changed"));
  Json manifest = parse_json(text, FileLocation{path}, Fault::kData);
  if (!manifest.is_object() || manifest.value("schema", Json()) != "slipway.data" ||
      manifest.value("schema_version", Json()) != kSchemaVersion)
    refuse_data(path, join("its schema is not slipway.data, version ", kSchemaVersion));
  return manifest;
}

Json write_manifest(const fs::path& folder, const Json& manifest) {
  Json full_manifest = {{"schema", "slipway.data"}, {"schema_version", kSchemaVersion}};
  full_manifest.update(manifest);
  const std::string text = to_pretty(full_manifest);
  atomic_write_file(folder / kManifestFile, text);
  atomic_write_file(folder / kManifestHashFile, sha256_hex(text) + "\n");
  return full_manifest;
}

}  // namespace slipway
