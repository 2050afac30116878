#include "src/data/corpus.hpp"

#include <algorithm>
#include <set>

#include "src/core/json_error.hpp"
#include "src/core/json_number.hpp"
#include "src/data/corpus_manifest.hpp"

namespace slipway {

namespace {

/// An SPDX expression; what is an expression itself goes into parentheses.
std::string joined_licenses(const std::set<std::string>& licenses) {
  std::string text;
  for (const std::string& license : licenses) {
    const bool is_expression = licenses.size() > 1 && license.find(' ') != std::string::npos;
    text += (text.empty() ? "" : " AND ") + (is_expression ? "(" + license + ")" : license);
  }
  return text;
}

}  // namespace

std::string_view name(Split split) { return split == Split::kTrain ? "train" : "validation"; }

Corpus Corpus::open(const std::filesystem::path& folder) {
  const Json manifest = read_corpus_manifest(folder);
  Corpus corpus(Tokenizer::load(folder / kCorpusTokenizerFile));
  corpus.folder_ = folder;
  try {
    manifest.at("corpus_sha256").get_to(corpus.corpus_sha256_);
    const std::string tokenizer_sha256 = manifest.at("tokenizer").at("sha256");
    if (corpus.tokenizer_.sha256() != tokenizer_sha256)
      refuse_data(folder / kCorpusTokenizerFile,
                  join("not the tokenizer that made the shards (its sha256 is ", corpus.tokenizer_.sha256(),
                       ", but the manifest says ", tokenizer_sha256, ")"));
    std::set<std::string> licenses;
    for (const Split split : kSplits) {
      const Json& json = manifest.at("splits").at(name(split));
      SplitData& split_data = corpus.splits_[static_cast<std::size_t>(split)];
      const auto count = [&](const char* key) { return checked_count<std::int64_t>(json.at(key)); };
      split_data.statistics = {.documents = count("documents"),
                               .tokens = count("tokens"),
                               .text_bytes = count("bytes"),
                               .unique_tokens = count("unique_tokens"),
                               .unigram_entropy_nats = json.at("unigram_entropy_nats"),
                               .bigram_entropy_nats = json.at("bigram_entropy_nats")};
      for (const auto& [license, tally] : json.at("licenses").items()) {
        if (license.empty())
          corpus.unlicensed_ +=
              std::min(split_data.statistics.documents, checked_count<std::int64_t>(tally.at("documents")));
        else licenses.insert(license);
      }
      std::int64_t documents = 0, tokens = 0;
      for (const Json& entry : json.at("shards")) {
        const std::filesystem::path file = entry.at("file").get<std::string>();
        if (file.has_parent_path() || file == "..")
          refuse_data(folder, join("the shard name ", file.string(), " leaves the folder"));
        const TokenShard& shard = split_data.shards.emplace_back(folder / file);
        if (shard.info().tokenizer_sha256 != tokenizer_sha256 || shard.info().split != name(split) ||
            shard.info().vocabulary != corpus.tokenizer_.vocabulary_size() ||
            shard.info().documents != entry.at("documents") || shard.info().tokens != entry.at("tokens"))
          refuse_data(shard.path(), "not the token shard that the manifest lists");
        split_data.first_document.push_back(documents);
        documents += shard.info().documents;
        tokens += shard.info().tokens;
      }
      if (documents != split_data.statistics.documents || tokens != split_data.statistics.tokens)
        refuse_data(folder / kManifestFile, "its counts are not those of its shards");
    }
    if (corpus.unlicensed_ == 0) corpus.license_ = joined_licenses(licenses);
  } catch (const nlohmann::json::exception& reason) {
    refuse_data(folder / kManifestFile, join("not as expected (", reason_of(reason), ")"));
  }
  return corpus;
}

Corpus::DocumentLocation Corpus::locate(Split split, std::int64_t document) const {
  const SplitData& data = split_data(split);
  require(document >= 0 && document < data.statistics.documents, "Corpus: no such document");
  const auto next_shard = std::upper_bound(data.first_document.begin(), data.first_document.end(), document);
  const auto shard = static_cast<std::size_t>(next_shard - data.first_document.begin() - 1);
  return {&data.shards[shard], document - data.first_document[shard]};
}

std::int64_t Corpus::document_tokens(Split split, std::int64_t document) const {
  const DocumentLocation location = locate(split, document);
  return location.shard->extent(location.document).tokens;
}

void Corpus::copy(Split split, std::int64_t document, std::int64_t first, std::int64_t count, int* ids) const {
  const DocumentLocation location = locate(split, document);
  const TokenShard::Extent extent = location.shard->extent(location.document);
  require(first >= 0 && count >= 0 && first + count <= extent.tokens, "Corpus::copy: outside the document");
  location.shard->copy(extent.first + first, count, ids);
}

DocumentMetadata Corpus::document_metadata(Split split, std::int64_t document) const {
  const DocumentLocation location = locate(split, document);
  return location.shard->metadata(location.document);
}

void Corpus::release_pages() const {
  for (const Split split : {Split::kTrain, Split::kValidation})
    for (const TokenShard& shard : shards(split)) shard.release_pages();
}

}  // namespace slipway
