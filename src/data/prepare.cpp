#include "src/data/prepare.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <exception>
#include <future>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "io/token_shard.hpp"
#include "src/core/clock.hpp"
#include "src/core/cpus.hpp"
#include "src/core/hash.hpp"
#include "src/core/log.hpp"
#include "src/data/corpus.hpp"
#include "src/data/corpus_manifest.hpp"

namespace slipway {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBatchBytes = 512 << 10;  // of text a thread and batch: enough work to forget the hand-over

/// Runs `work`, and turns what std::filesystem throws into our own error.
template <class Work>
auto on_disk(Work&& work) {
  try {
    return work();
  } catch (const fs::filesystem_error& failed) {
    throw Error(Fault::kStorage, join("cannot write ", failed.path1().string(), ": ", failed.code().message()));
  }
}

/// A document on its way into a shard.
struct Encoded {
  Document document;
  DocumentFacts facts;
  std::vector<int> ids;
};

std::array<std::uint8_t, 32> sha256_of(std::string_view text) {
  const std::string digits = sha256_hex(text);
  std::array<std::uint8_t, 32> bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i)
    std::from_chars(digits.data() + 2 * i, digits.data() + 2 * i + 2, bytes[i], 16);
  return bytes;
}

/// Where a content stands between 0 and 2^64: what the split goes by.
std::uint64_t split_key(const std::array<std::uint8_t, 32>& sha256) {
  std::uint64_t key = 0;
  for (int i = 0; i < 8; ++i) key = key << 8 | sha256[static_cast<std::size_t>(i)];
  return key;
}

void encode(const Tokenizer& tokenizer, Encoded& item) {
  const std::string& text = item.document.text;
  item.ids = tokenizer.encode(text);
  if (tokenizer.add_bos() && tokenizer.bos()) item.ids.insert(item.ids.begin(), *tokenizer.bos());
  if (tokenizer.eos()) item.ids.push_back(*tokenizer.eos());
  item.facts = {.content_sha256 = sha256_of(text),
                .text_bytes = text.size(),
                .license = item.document.license,
                .source = item.document.source,
                .origin_path = item.document.origin_path,
                .line = static_cast<std::uint32_t>(item.document.line)};
}

/// Encodes a batch with threads; each document is one piece of work, and its place does not change.
void encode_all(const Tokenizer& tokenizer, std::vector<Encoded>& batch, [[maybe_unused]] int threads) {
  std::exception_ptr failed;
  const auto count = static_cast<std::int64_t>(batch.size());
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (std::int64_t i = 0; i < count; ++i) {
    try {
      encode(tokenizer, batch[static_cast<std::size_t>(i)]);
    } catch (...) {
#pragma omp critical(encode_all_failed)
      failed = std::current_exception();
    }
  }
  if (failed) std::rethrow_exception(failed);
}

std::vector<Encoded> read_batch(TextSource& source, std::size_t bytes) {
  std::vector<Encoded> batch;
  for (std::size_t read = 0; read < bytes; read += batch.back().document.text.size()) {
    Encoded item;
    if (!source.next(item.document)) break;
    batch.push_back(std::move(item));
  }
  return batch;
}

/// The shards being filled, one for each split and lane.
class ShardSet {
 public:
  ShardSet(fs::path folder, const Tokenizer& tokenizer, std::int64_t shard_tokens)
      : folder_(std::move(folder)),
        tokenizer_sha256_(tokenizer.sha256()),
        vocabulary_(tokenizer.vocabulary()),
        shard_tokens_(shard_tokens) {}

  void add(Split split, const Encoded& item) {
    const Key key{split, item.document.lane};
    const TokenShardInfo info{.split = std::string(name(split)),
                              .lane = item.document.lane,
                              .tokenizer_sha256 = tokenizer_sha256_,
                              .vocabulary = vocabulary_};
    const auto open = open_.try_emplace(key, info).first;
    open->second.add(item.facts, item.ids);
    if (open->second.info().tokens < shard_tokens_) return;
    write(key, open->second);
    open_.erase(open);
  }

  /// Writes what is open. The files by split, then lane, then number.
  std::vector<fs::path> finish() {
    for (const auto& [key, builder] : open_) write(key, builder);
    open_.clear();
    std::vector<fs::path> files;
    for (const auto& [key, written] : written_) files.insert(files.end(), written.begin(), written.end());
    return files;
  }

 private:
  using Key = std::pair<Split, std::string>;

  void write(const Key& key, const TokenShardBuilder& builder) {
    std::vector<fs::path>& files = written_[key];
    std::string number = std::to_string(files.size());
    number.insert(0, 5 - std::min<std::size_t>(5, number.size()), '0');
    files.push_back(folder_ / join(name(key.first), ".", key.second, ".", number, ".tokens"));
    builder.write(files.back());
  }

  fs::path folder_;
  std::string tokenizer_sha256_;
  int vocabulary_;
  std::int64_t shard_tokens_;
  std::map<Key, TokenShardBuilder> open_;
  std::map<Key, std::vector<fs::path>> written_;
};

/// What one reading of all inputs gave.
struct Pass {
  std::vector<fs::path> shards;
  std::vector<std::uint64_t> keys;  ///< split_key of each document
  std::map<std::string, std::int64_t> skipped;
  std::size_t files = 0;
};

/// Reads, encodes and writes everything; a document validates when its key lies under `limit`.
Pass write_shards(const TextInputs& inputs, const PrepareConfig& config, const Tokenizer& tokenizer,
                  const fs::path& folder, std::uint64_t limit) {
  const int threads = config.threads > 0 ? config.threads : cpus_of_process();
  const std::size_t batch_bytes = kBatchBytes * static_cast<std::size_t>(threads);
  TextSource source(inputs, config.text);
  ShardSet shards(folder, tokenizer, config.shard_tokens);
  log::Progress progress("data");
  Pass pass{.files = source.files()};

  std::vector<Encoded> batch = read_batch(source, batch_bytes);
  while (!batch.empty()) {
    // The next batch is read while this one is encoded.
    auto next = std::async(std::launch::async, [&] { return read_batch(source, batch_bytes); });
    encode_all(tokenizer, batch, threads);
    for (const Encoded& item : batch) {
      const std::uint64_t key = split_key(item.facts.content_sha256);
      shards.add(key < limit ? Split::kValidation : Split::kTrain, item);
      pass.keys.push_back(key);
    }
    batch = next.get();
    progress(static_cast<double>(source.bytes_done()), static_cast<double>(source.bytes_total()),
             [&](double elapsed_s) {
               return join(" of ", human_bytes(static_cast<double>(source.bytes_total())), " | ",
                           human_count(static_cast<double>(pass.keys.size())), " documents | ",
                           human_bytes(static_cast<double>(source.bytes_done()) / elapsed_s), "/s");
             });
  }
  pass.shards = shards.finish();
  pass.skipped = source.skipped();
  return pass;
}

/// The limit of split_key for a fraction; when one side would be empty, the limit that moves the nearest document.
std::uint64_t mended_limit(std::uint64_t limit, double fraction, const Pass& pass) {
  if (pass.keys.empty())
    throw Error(
        Fault::kData,
        "no document is left: all input was skipped as bad; run with --data.on_bad error to see the first reason");
  if (fraction == 0) return limit;
  const auto [least, most] = std::minmax_element(pass.keys.begin(), pass.keys.end());
  if (*least == *most)
    throw Error(Fault::kData,
                join("there are fewer than two distinct documents, so train and validation cannot both have one; "
                     "lower --data.document_bytes, or do without validation with --data.validation_fraction 0"));
  if (*least >= limit) return *least + 1;
  if (*most < limit) return *most;
  return limit;
}

std::uint64_t limit_of(double fraction) { return static_cast<std::uint64_t>(std::floor(std::ldexp(fraction, 64))); }

Json describe(const Tokenizer& tokenizer) {
  const auto id = [](std::optional<int> value) { return value ? Json(*value) : Json(nullptr); };
  return {{"file", kCorpusTokenizerFile}, {"sha256", tokenizer.sha256()}, {"vocabulary", tokenizer.vocabulary()},
          {"bos", id(tokenizer.bos())},   {"eos", id(tokenizer.eos())},   {"add_bos", tokenizer.add_bos()}};
}

Json survey_files(const std::string& tokenizer_sha256, const std::vector<fs::path>& files) {
  const std::vector<TokenShard> shards(files.begin(), files.end());
  return survey(tokenizer_sha256, shards);
}

/// Fills an empty folder with everything a data folder holds.
Json fill_folder(const TextInputs& inputs, const PrepareConfig& config, const Tokenizer& tokenizer,
                 const fs::path& folder) {
  std::uint64_t limit = limit_of(config.validation_fraction);
  Pass pass = write_shards(inputs, config, tokenizer, folder, limit);
  const std::uint64_t mended = mended_limit(limit, config.validation_fraction, pass);
  const bool moved = mended != limit;
  if (moved) {  // mostly small inputs come here, and reading them again is simpler than keeping all of them
    log::info(join("data: with data.validation_fraction = ", config.validation_fraction, " the ",
                   *std::min_element(pass.keys.begin(), pass.keys.end()) >= limit ? "validation" : "training",
                   " side would be empty, so the nearest document moves there"));
    for (const fs::path& shard : pass.shards) fs::remove(shard);
    limit = mended;
    pass = write_shards(inputs, config, tokenizer, folder, limit);
  }

  replace_file(folder / kCorpusTokenizerFile, tokenizer.to_json());
  Json skipped = Json::object();
  for (const auto& [reason, count] : pass.skipped) skipped[reason] = count;
  Json manifest = survey_files(tokenizer.sha256(), pass.shards);
  manifest.update({{"files", pass.files},
                   {"skipped", skipped},
                   {"tokenizer", describe(tokenizer)},
                   {"split",
                    {{"by", "sha256 of the text, first 8 bytes, big-endian, below limit"},
                     {"fraction", config.validation_fraction},
                     {"limit", join(limit)},
                     {"moved", moved}}},
                   {"config",
                    {{"data.document_bytes", config.text.document_bytes},
                     {"data.max_line_bytes", config.text.max_line_bytes},
                     {"data.on_bad", config.text.on_bad},
                     {"data.lane", config.text.lane},
                     {"data.validation_fraction", config.validation_fraction},
                     {"data.shard_tokens", config.shard_tokens}}}});
  return write_manifest(folder, manifest);
}

}  // namespace

void PrepareConfig::check() const {
  text.check();
  if (!(validation_fraction >= 0 && validation_fraction < 1))
    throw Error(Fault::kConfig, join("data.validation_fraction is ", validation_fraction,
                                     "; expected 0 or more and below 1, such as 0.02"));
  if (shard_tokens < 1)
    throw Error(Fault::kConfig,
                join("data.shard_tokens is ", shard_tokens, "; expected 1 or more, such as ", kShardTokens));
  check_thread_count(threads);
}

Json prepare_corpus(const TextInputs& inputs, const PrepareConfig& config, const Tokenizer& tokenizer,
                    const fs::path& folder) {
  config.check();
  std::string place = folder.string();
  while (place.size() > 1 && place.back() == '/') place.pop_back();
  const fs::path target(place), partial(place + ".partial");
  return on_disk([&] {
    if (fs::exists(target) && !(fs::is_directory(target) && fs::is_empty(target)))
      throw Error(Fault::kConfig,
                  join("--out ", place, " exists and is not an empty folder; name another one, or remove it first"));
    if (fs::remove_all(partial) > 0)
      log::info(join("data: removed ", partial.string(), ", which an interrupted run had left"));
    fs::create_directories(partial);
    try {
      const Json manifest = fill_folder(inputs, config, tokenizer, partial);
      sync_path(partial);
      fs::rename(partial, target);
      sync_path(fs::absolute(target).parent_path());
      return manifest;
    } catch (...) {
      std::error_code ignored;  // the first failure is the one to report
      fs::remove_all(partial, ignored);
      throw;
    }
  });
}

Json verify_corpus(const fs::path& folder) {
  const Json manifest = read_corpus_manifest(folder);
  const Corpus corpus = Corpus::open(folder);
  if (sha256_file(folder / kCorpusTokenizerFile, Fault::kData) != corpus.tokenizer().sha256())
    refuse_data(folder / kCorpusTokenizerFile, "bytes were changed after it was written");

  std::vector<fs::path> files;
  for (const Split split : kSplits)
    for (const TokenShard& shard : corpus.shards(split)) files.push_back(shard.path());
  const Json found = survey_files(corpus.tokenizer().sha256(), files);
  for (const auto& [key, value] : found.items())
    if (manifest.at(key) != value) refuse_data(folder / kManifestFile, join("'", key, "' is not what the shards give"));
  return manifest;
}

}  // namespace slipway
