#include "src/data/corpus_summary.hpp"

#include <algorithm>
#include <bit>
#include <map>
#include <string>
#include <vector>

namespace slipway {
namespace {

struct LaneLengths {
  std::vector<std::int64_t> tokens;  // of each document
  std::int64_t bytes = 0;

  Json json() {
    std::ranges::sort(tokens);
    std::int64_t total = 0;
    for (const std::int64_t length : tokens) total += length;
    const auto quantile = [&](double fraction) {
      return tokens[static_cast<std::size_t>(fraction * static_cast<double>(tokens.size() - 1))];
    };
    return {{"documents", tokens.size()},
            {"tokens", total},
            {"bytes", bytes},
            {"bytes_per_token", static_cast<double>(bytes) / static_cast<double>(total)},
            {"least", tokens.front()},
            {"median", quantile(0.5)},
            {"mean", static_cast<double>(total) / static_cast<double>(tokens.size())},
            {"p95", quantile(0.95)},
            {"most", tokens.back()},
            {"histogram", histogram()}};
  }

  /// Bars [1, 1], [2, 3], [4, 7], ... from the shortest document to the longest, empty ones between them included.
  Json histogram() const {
    std::map<int, std::int64_t> bars;
    const auto bar_of = [](std::int64_t length) {
      return static_cast<int>(std::bit_width(static_cast<std::uint64_t>(length))) - 1;
    };
    for (int bar = bar_of(tokens.front()); bar <= bar_of(tokens.back()); ++bar) bars[bar] = 0;
    for (const std::int64_t length : tokens) ++bars[bar_of(length)];
    Json json = Json::array();
    for (const auto& [bar, documents] : bars)
      json.push_back(
          {{"from", std::int64_t{1} << bar}, {"to", (std::int64_t{2} << bar) - 1}, {"documents", documents}});
    return json;
  }
};

}  // namespace

Json summarize_lengths(const Corpus& corpus) {
  Json json = Json::object();
  for (const Split split : kSplits) {
    std::map<std::string, LaneLengths> lanes;
    for (const TokenShard& shard : corpus.shards(split)) {
      LaneLengths& lane = lanes[shard.info().lane];
      for (std::int64_t document = 0; document < shard.info().documents; ++document) {
        lane.tokens.push_back(shard.extent(document).tokens);
        lane.bytes += static_cast<std::int64_t>(shard.metadata(document).text_bytes);
      }
    }
    Json by_lane = Json::object();
    for (auto& [name, lane] : lanes)
      if (!lane.tokens.empty()) by_lane[name] = lane.json();
    json[std::string(name(split))] = std::move(by_lane);
  }
  return json;
}

Json sample_rows(const Corpus& corpus, std::int64_t rows) {
  const Tokenizer& tokenizer = corpus.tokenizer();
  Json json = Json::array();
  for (const Split split : kSplits) {
    std::int64_t number = 0;
    for (const TokenShard& shard : corpus.shards(split)) {
      for (std::int64_t document = 0; document < shard.info().documents && number < rows; ++document, ++number) {
        const TokenShard::Extent document_extent = shard.extent(document);
        const DocumentMetadata metadata = shard.metadata(document);
        std::vector<int> ids(static_cast<std::size_t>(document_extent.tokens));
        shard.copy(document_extent.first, document_extent.tokens, ids.data());
        if (tokenizer.add_bos() && tokenizer.bos() && ids.front() == *tokenizer.bos()) ids.erase(ids.begin());
        if (tokenizer.eos() && !ids.empty() && ids.back() == *tokenizer.eos()) ids.pop_back();
        Json segment = {{"text", tokenizer.decode(ids)}, {"role", "text"}, {"loss", true}};
        json.push_back({{"lane", shard.info().lane},
                        {"split", name(split)},
                        {"document", number},
                        {"tokens", document_extent.tokens},
                        {"origin", metadata.origin_path},
                        {"line", metadata.line},
                        {"license", metadata.license},
                        {"segments", Json::array({std::move(segment)})}});
      }
    }
  }
  return json;
}

}  // namespace slipway
