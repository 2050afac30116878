#include "src/data/loader.hpp"

#include <algorithm>

#include "src/core/json_number.hpp"
#include "src/core/log.hpp"
#include "src/core/words.hpp"

namespace slipway {

constexpr int kStateVersion = 1;

namespace {

/// Errors   Fault::kData for a sequence so late that its tokens cannot be counted.
std::uint64_t parse_position(const Json& sequence, std::uint64_t tokens_per_sequence) {
  constexpr std::uint64_t kMaxTokens = std::uint64_t{1} << 62;
  if (sequence.is_number_unsigned() && tokens_per_sequence > 0 &&
      sequence.get<std::uint64_t>() <= kMaxTokens / tokens_per_sequence)
    return sequence.get<std::uint64_t>();
  throw Error(Fault::kData, join("the saved data position is sequence ", to_line(sequence).substr(0, 40),
                                 ", where none can be; the checkpoint is damaged, or of another version"));
}

}  // namespace

void DataConfig::check() const {
  packing_of(packing);
  if (on_end != "wrap" && on_end != "error")
    throw Error(Fault::kConfig, join("data.on_end is '", on_end, "'; expected wrap or error"));
}

std::int64_t num_sequences(std::int64_t requested, std::int64_t available, int tokens_per_sequence) {
  const std::int64_t tokens = std::min(requested, available), T = tokens_per_sequence;
  return tokens / T + (tokens % T != 0 ? 1 : 0);
}

std::string describe_sequences(const Corpus& corpus, Split split, std::int64_t sequences, int tokens_per_sequence) {
  return join(pluralize(sequences, "sequence"), " of ", pluralize(tokens_per_sequence, "token"), " of the ",
              name(split), " split of corpus ", corpus.corpus_sha256().substr(0, 12));
}

Loader::Source::Source(const Corpus& corpus, Split split, PackingKind kind, int tokens_per_sequence, std::uint64_t seed)
    : packing(corpus, split, kind, tokens_per_sequence, ShuffledOrder(corpus.documents(split), seed, "data.order")),
      order(packing.sequences_per_epoch(), seed, "data.sequence_order") {}

std::int64_t Loader::Source::at(std::uint64_t index) const {
  return order.at(epoch_of(index), static_cast<std::int64_t>(index % static_cast<std::uint64_t>(order.count())));
}

Loader::Loader(const Corpus& corpus, Split split, const DataConfig& config, int tokens_per_sequence, std::uint64_t seed)
    : corpus_(corpus),
      split_(split),
      packing_name_(config.packing),
      wraps_(config.on_end == "wrap"),
      tokens_per_sequence_(tokens_per_sequence),
      seed_(seed),
      mixture_({1}) {
  config.check();
  require(tokens_per_sequence >= 1, "Loader: a sequence without tokens");
  if (corpus.tokens(split) == 0)
    throw Error(Fault::kData, join(corpus.folder().string(), " has no ", name(split),
                                   " documents; run slipway data prepare with --data.validation_fraction above 0"));
  sources_.emplace_back(corpus, split, packing_of(config.packing), tokens_per_sequence, seed);
}

std::int64_t Loader::index_in_epoch(std::uint64_t sequence) const {
  const SourceSequence source_sequence = mixture_.at(sequence);
  return sources_[source_sequence.source].at(source_sequence.index);
}

Batch Loader::sequences(std::uint64_t first, int count) const {
  Batch batch;
  sequences(first, count, batch);
  return batch;
}

void Loader::sequences(std::uint64_t first, int count, Batch& batch) const {
  clear_batch(count, tokens_per_sequence_, batch);
  for (int row = 0; row < count; ++row) {
    const std::uint64_t sequence = first + static_cast<std::uint64_t>(row);
    const auto [number, index] = mixture_.at(sequence);
    const Source& sequence_source = sources_[number];
    sequence_source.packing.fill(sequence_source.epoch_of(index), sequence_source.at(index), row, batch);
    batch.row_ids[static_cast<std::size_t>(row)] = sequence;
  }
}

std::string Loader::exhausted_reason(int count, std::int64_t step) const {
  const auto per_epoch = static_cast<std::uint64_t>(sequences_per_epoch());
  if (wraps_ || cursor_ + static_cast<std::uint64_t>(count) <= per_epoch) return "";
  return join("step ", step, " needs ", count, " sequences, but of the ", per_epoch, " in the data only ",
              per_epoch - std::min(cursor_, per_epoch),
              " are left, and data.on_end is error; prepare more text, train fewer steps, or set data.on_end = wrap");
}

std::uint64_t Loader::next_sequences(int count, std::int64_t step) {
  require(count >= 1, "Loader::next_sequences: no sequences");
  if (const std::string why = exhausted_reason(count, step); !why.empty()) throw Error(Fault::kData, why);
  const auto per_epoch = static_cast<std::uint64_t>(sequences_per_epoch());
  const std::uint64_t first = cursor_, end = cursor_ + static_cast<std::uint64_t>(count);
  const std::uint64_t epoch_before = first == 0 ? 0 : (first - 1) / per_epoch, epoch = (end - 1) / per_epoch;
  if (epoch != epoch_before)
    log::info(join("data: epoch ", epoch + 1, " begins at step ", step, " (", pluralize(per_epoch, "sequence"), ", ",
                   tokens_per_epoch(), " tokens an epoch)"));
  cursor_ = end;
  return first;
}

Json Loader::state() const {
  return {{"schema_version", kStateVersion},
          {"order", "shuffled"},
          {"corpus_sha256", corpus_.corpus_sha256()},
          {"split", name(split_)},
          {"seed", seed_},
          {"packing", packing_name_},
          {"tokens_per_sequence", tokens_per_sequence_},
          {"sources", Json::array({{{"lanes", "all"}, {"weight", 1}, {"next_sequence", mixture_.count(0, cursor_)}}})},
          {"skipped", Json::array()}};
}

std::string Loader::restore_nearest(const Json& saved) {
  try {
    const auto length = checked_count<std::uint64_t>(saved.at("tokens_per_sequence")),
               own_length = static_cast<std::uint64_t>(tokens_per_sequence_),
               next = parse_position(saved.at("sources").at(0).at("next_sequence"), std::max(length, own_length));
    if (length == 0 || saved.at("split") != name(split_))
      throw Error(Fault::kData, "the saved data position is damaged, or of another version");
    if (saved.at("corpus_sha256") != corpus_.corpus_sha256()) {
      cursor_ = 0;
      return "data: another corpus than the parent's, from its beginning";
    }
    const bool same_order = saved.at("seed") == seed_ && length == own_length;
    const auto tokens = static_cast<std::uint64_t>(tokens_per_epoch()), per_epoch = (tokens + length - 1) / length,
               per_epoch_here = static_cast<std::uint64_t>(sequences_per_epoch());
    const std::uint64_t into_epoch = std::min(per_epoch_here, next % per_epoch * length / own_length);
    cursor_ = same_order ? next : next / per_epoch * per_epoch_here + into_epoch;
    return same_order
               ? join("data: from the parent's position, sequence ", cursor_)
               : join("data: as far into epoch ", next / per_epoch + 1, " as the parent was, sequence ", cursor_,
                      ", but in another order (train.seed or train.sequence differs): some text of this epoch comes "
                      "twice, and some not at all");
  } catch (const nlohmann::json::exception& reason) {
    throw Error(Fault::kData, join("the saved data position is of another version (", reason.what(), ")"));
  }
}

void Loader::restore(const Json& saved) {
  const Json current = state();
  for (const auto& [key, value] : current.items()) {
    if (!saved.contains(key))
      throw Error(Fault::kData,
                  join("the saved data position lacks '", key, "'; the checkpoint is of another version"));
    if (key != "sources" && saved.at(key) != value)
      throw Error(Fault::kData, join("the data position was saved with ", key, " ", saved.at(key), ", but here it is ",
                                     value, "; resume with the same data folder and data settings"));
  }
  const Json& sources = saved.at("sources");
  if (!sources.is_array() || sources.size() != 1 || !sources[0].is_object() || !sources[0].contains("next_sequence"))
    throw Error(Fault::kData, "the saved data position is not of one source; the checkpoint is of another version");
  cursor_ = parse_position(sources[0]["next_sequence"], static_cast<std::uint64_t>(tokens_per_sequence_));
}

}  // namespace slipway
