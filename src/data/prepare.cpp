#include "src/data/prepare.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "io/data/token_shard.hpp"
#include "src/core/clock.hpp"
#include "src/core/cpus.hpp"
#include "src/core/hash.hpp"
#include "src/core/log.hpp"
#include "src/core/partial_folder.hpp"
#include "src/core/workers.hpp"
#include "src/data/corpus.hpp"
#include "src/data/corpus_manifest.hpp"

namespace slipway {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBatchBytes = 256 << 10;  // text per item of the pipeline: milliseconds of work

/// Runs `work`, and converts exceptions of std::filesystem to Fault::kStorage.
template <class Work>
auto with_storage_errors(Work&& work) {
  try {
    return work();
  } catch (const fs::filesystem_error& error) {
    throw Error(Fault::kStorage, join("cannot write ", error.path1().string(), ": ", error.code().message()));
  }
}

/// A document to be added to a shard.
struct EncodedDocument {
  Document document;
  DocumentMetadata metadata;
  std::vector<int> ids;
};

std::array<std::uint8_t, 32> sha256_of(std::string_view text) {
  const std::string hex = sha256_hex(text);
  std::array<std::uint8_t, 32> bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i)
    std::from_chars(hex.data() + 2 * i, hex.data() + 2 * i + 2, bytes[i], 16);
  return bytes;
}

/// The first 64 bits of a content hash, which determine the split.
std::uint64_t split_key(const std::array<std::uint8_t, 32>& sha256) {
  std::uint64_t key = 0;
  for (int i = 0; i < 8; ++i) key = key << 8 | sha256[static_cast<std::size_t>(i)];
  return key;
}

void encode(const Tokenizer& tokenizer, EncodedDocument& item) {
  const std::string& text = item.document.text;
  item.ids = tokenizer.encode(text);
  if (tokenizer.add_bos() && tokenizer.bos()) item.ids.insert(item.ids.begin(), *tokenizer.bos());
  if (tokenizer.eos()) item.ids.push_back(*tokenizer.eos());
  item.metadata = {.content_sha256 = sha256_of(text),
                   .text_bytes = text.size(),
                   .license = item.document.license,
                   .source = item.document.source,
                   .origin_path = item.document.origin_path,
                   .line = static_cast<std::uint32_t>(item.document.line)};
}

/// A batch of documents, the item of the pipeline.
struct DocumentBatch {
  std::vector<EncodedDocument> items;
  std::uint64_t bytes_done = 0;  // of the inputs, when the last of them was read
};

std::optional<DocumentBatch> read_batch(TextSource& source) {
  DocumentBatch batch;
  for (std::size_t read = 0; read < kBatchBytes; read += batch.items.back().document.text.size()) {
    EncodedDocument item;
    if (!source.next(item.document)) break;
    batch.items.push_back(std::move(item));
  }
  if (batch.items.empty()) return std::nullopt;
  batch.bytes_done = source.bytes_done();
  return batch;
}

/// The shards being filled, one for each split and lane. A full shard is synced in the background while the next one
/// is filled: at most one for each split and lane.
class ShardWriter {
 public:
  ShardWriter(fs::path folder, std::string tokenizer_sha256, int vocabulary, std::int64_t shard_tokens)
      : folder_(std::move(folder)),
        tokenizer_sha256_(std::move(tokenizer_sha256)),
        vocabulary_(vocabulary),
        shard_tokens_(shard_tokens) {}

  void add(Split split, const EncodedDocument& item) {
    const Key key{split, item.document.lane};
    const TokenShardInfo info{.split = std::string(name(split)),
                              .lane = item.document.lane,
                              .tokenizer_sha256 = tokenizer_sha256_,
                              .vocabulary = vocabulary_};
    const auto open = open_.try_emplace(key, info, std::min(shard_tokens_, PrepareConfig::kShardTokens)).first;
    open->second.add(item.metadata, item.ids);
    if (open->second.info().tokens < shard_tokens_) return;
    write(key, open->second);
    open_.erase(open);
  }

  /// Writes the open shards. Returns the files by split, then lane, then number; they are readable, and durable after
  /// wait().
  std::vector<fs::path> finish() {
    for (const auto& [key, builder] : open_) write(key, builder);
    open_.clear();
    std::vector<fs::path> files;
    for (const auto& [key, files_written] : written_)
      files.insert(files.end(), files_written.begin(), files_written.end());
    return files;
  }

  /// Removes all files.
  void remove() {
    wait();
    for (const auto& [key, files_written] : written_)
      for (const fs::path& file : files_written) fs::remove(file);
    written_.clear();
  }

  /// Until every file is durable. Errors: Fault::kStorage.
  void wait() {
    for (auto& [key, sync] : pending_syncs_) sync.get();
    pending_syncs_.clear();
  }

 private:
  using Key = std::pair<Split, std::string>;

  void write(const Key& key, const TokenShardBuilder& builder) {
    std::vector<fs::path>& files = written_[key];
    std::string number = std::to_string(files.size());
    number.insert(0, 5 - std::min<std::size_t>(5, number.size()), '0');
    files.push_back(folder_ / join(name(key.first), ".", key.second, ".", number, ".tokens"));
    auto file = std::make_unique<FileWriter>(files.back());
    builder.write(*file);
    std::future<void>& sync = pending_syncs_[key];
    if (sync.valid()) sync.get();
    sync = std::async(std::launch::async, [file = std::move(file)] { file->close(); });
  }

  fs::path folder_;
  std::string tokenizer_sha256_;
  int vocabulary_;
  std::int64_t shard_tokens_;
  std::map<Key, TokenShardBuilder> open_;
  std::map<Key, std::vector<fs::path>> written_;
  std::map<Key, std::future<void>> pending_syncs_;
};

/// The result of one pass over all inputs.
struct PassResult {
  std::vector<fs::path> shards;
  std::vector<std::uint64_t> keys;  ///< split_key of each document
  InputTally skipped, notices;
  std::size_t files = 0;
};

/// Reads, encodes and writes everything; a document is in the validation split when its key is below `limit`.
PassResult write_shards(const InputList& inputs, const PrepareConfig& config, const Tokenizer& tokenizer, int threads,
                        ShardWriter& shards, std::uint64_t limit, bool second_pass = false) {
  TextSource source(inputs, config.text, second_pass);
  log::Progress progress("data");
  PassResult pass{.files = source.files()};

  OrderedPipeline<DocumentBatch> pipeline;
  pipeline.read = [&] { return read_batch(source); };
  pipeline.work = [&](DocumentBatch& batch) {
    for (EncodedDocument& item : batch.items) encode(tokenizer, item);
  };
  pipeline.consume = [&](DocumentBatch& batch) {
    for (const EncodedDocument& item : batch.items) {
      const std::uint64_t key = split_key(item.metadata.content_sha256);
      shards.add(key < limit ? Split::kValidation : Split::kTrain, item);
      pass.keys.push_back(key);
    }
    const auto done = static_cast<double>(batch.bytes_done), total = static_cast<double>(source.bytes_total());
    progress(done, total, [&](double elapsed_s) {
      return join(" of ", human_bytes(total), " | ", human_count(static_cast<double>(pass.keys.size())),
                  " documents | ", human_bytes(done / elapsed_s), "/s");
    });
  };
  pipeline.run(threads);
  pass.shards = shards.finish();
  pass.skipped = source.skipped();
  pass.notices = source.notices();
  return pass;
}

/// The limit of split_key for a fraction; when one side would be empty, the limit that moves the nearest document.
std::uint64_t adjusted_limit(std::uint64_t limit, double fraction, const PassResult& pass) {
  if (pass.keys.empty()) {
    std::string why;
    for (const std::string& phrase : to_phrases(pass.skipped.counts_json(), pass.skipped.places_json()))
      why += (why.empty() ? "" : "; ") + phrase;
    throw Error(Fault::kData, join("no document is left: all input was left out as bad (", why,
                                   "); run with --data.on_bad error to see the first reason"));
  }
  if (fraction == 0) return limit;
  const auto [min_key, max_key] = std::minmax_element(pass.keys.begin(), pass.keys.end());
  if (*min_key == *max_key) {
    log_tallies("data", pass.skipped.counts_json(), pass.skipped.places_json(), pass.notices.counts_json(),
                pass.notices.places_json());  // which often say why
    throw Error(Fault::kData,
                join("there are fewer than two distinct documents, so train and validation cannot both have one; "
                     "lower --data.document_bytes, or do without validation with --data.validation_fraction 0"));
  }
  if (*min_key >= limit) return *min_key + 1;
  if (*max_key < limit) return *max_key;
  return limit;
}

std::uint64_t limit_for(double fraction) { return static_cast<std::uint64_t>(std::floor(std::ldexp(fraction, 64))); }

Json describe_tokenizer(const Tokenizer& tokenizer, const std::string& sha256) {
  const auto id = [](std::optional<int> value) { return value ? Json(*value) : Json(nullptr); };
  return {{"file", kCorpusTokenizerFile}, {"sha256", sha256},           {"vocabulary", tokenizer.vocabulary_size()},
          {"bos", id(tokenizer.bos())},   {"eos", id(tokenizer.eos())}, {"add_bos", tokenizer.add_bos()}};
}

Json summarize_files(const std::string& tokenizer_sha256, const std::vector<fs::path>& files, int threads) {
  const std::vector<TokenShard> shards(files.begin(), files.end());
  return summarize_shards(tokenizer_sha256, shards, threads);
}

/// Fills an empty folder with everything a data folder holds.
Json fill_folder(const InputList& inputs, const PrepareConfig& config, const Tokenizer& tokenizer,
                 const fs::path& folder) {
  const int threads = config.threads > 0 ? config.threads : available_cpus();
  const std::string tokenizer_json = tokenizer.to_json(), tokenizer_sha256 = sha256_hex(tokenizer_json);
  auto tokenizer_written = std::async(  // concurrently with the passes below
      std::launch::async, [&] { atomic_write_file(folder / kCorpusTokenizerFile, tokenizer_json); });

  ShardWriter shards(folder, tokenizer_sha256, tokenizer.vocabulary_size(), config.shard_tokens);
  std::uint64_t limit = limit_for(config.validation_fraction);
  PassResult pass = write_shards(inputs, config, tokenizer, threads, shards, limit);
  const std::uint64_t adjusted = adjusted_limit(limit, config.validation_fraction, pass);
  const bool moved = adjusted != limit;
  if (moved) {  // mostly small inputs come here, and reading them again is simpler than keeping all of them
    log::info(
        join("data: with data.validation_fraction = ", config.validation_fraction, " the ",
             *std::min_element(pass.keys.begin(), pass.keys.end()) >= limit ? "validation" : "training",
             " side would be empty, so the nearest document moves there; a loss of one document says little: raise "
             "--data.validation_fraction, or lower --data.document_bytes to have more documents"));
    shards.remove();
    limit = adjusted;
    pass = write_shards(inputs, config, tokenizer, threads, shards, limit, /*second_pass=*/true);
  }

  Json manifest = summarize_files(tokenizer_sha256, pass.shards, threads);
  manifest.update({{"files", pass.files},
                   {"skipped", pass.skipped.counts_json()},
                   {"skipped_first", pass.skipped.places_json()},
                   {"noted", pass.notices.counts_json()},
                   {"noted_first", pass.notices.places_json()},
                   {"tokenizer", describe_tokenizer(tokenizer, tokenizer_sha256)},
                   {"split",
                    {{"by", "sha256 of the text, first 8 bytes, big-endian, below limit"},
                     {"fraction", config.validation_fraction},
                     {"limit", join(limit)},
                     {"moved", moved}}},
                   {"config",
                    {{"data.document_bytes", config.text.document_bytes},
                     {"data.max_line_bytes", config.text.max_line_bytes},
                     {"data.format", config.text.format},
                     {"data.text_field", config.text.text_field},
                     {"data.on_bad", config.text.on_bad},
                     {"data.lane", config.text.lane},
                     {"data.license", config.text.license},
                     {"data.validation_fraction", config.validation_fraction},
                     {"data.shard_tokens", config.shard_tokens}}}});
  shards.wait();
  tokenizer_written.get();
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
  return with_storage_errors([&] {
    if (fs::exists(folder) && !(fs::is_directory(folder) && fs::is_empty(folder)))
      throw Error(Fault::kConfig, join("--out ", folder.string(),
                                       " exists and is not an empty folder; name another one, or remove it first"));
    // List the inputs before writing anything, so that no output of this run is read as input.
    const InputList list = list_inputs(inputs, config.text.on_bad == "skip");
    PartialFolder partial(folder);
    const Json manifest = fill_folder(list, config, tokenizer, partial.path());
    partial.publish();
    return manifest;
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
  const Json found = summarize_files(corpus.tokenizer().sha256(), files, available_cpus());
  for (const auto& [key, value] : found.items())
    if (manifest.value(key, Json()) != value)
      refuse_data(folder / kManifestFile, join("'", key, "' is not what the shards give"));
  return manifest;
}

}  // namespace slipway
