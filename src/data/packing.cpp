#include "src/data/packing.hpp"

#include <algorithm>

#include "src/core/error.hpp"

namespace slipway {

PackingKind packing_of(const std::string& name) {
  if (name == "documents") return PackingKind::kDocuments;
  if (name == "stream") return PackingKind::kStream;
  throw Error(Fault::kConfig, join("data.packing is '", name, "'; expected documents or stream"));
}

Packing::Packing(const Corpus& corpus, Split split, PackingKind kind, int tokens_per_sequence,
                 const ShuffledOrder& documents)
    : corpus_(corpus),
      split_(split),
      kind_(kind),
      tokens_per_sequence_(tokens_per_sequence),
      documents_(documents),
      tokens_(corpus.tokens(split)) {
  require(tokens_per_sequence >= 1, "Packing: a sequence without tokens");
  require(documents.count() == corpus.documents(split), "Packing: the order is not of the split's documents");
}

std::shared_ptr<const Packing::EpochLayout> Packing::layout(std::uint64_t epoch) const {
  const std::lock_guard lock(layouts_mutex_);
  for (const auto& cached : layouts_)
    if (cached->epoch == epoch) return cached;

  auto created = std::make_shared<EpochLayout>();
  created->epoch = epoch;
  created->starts.reserve(static_cast<std::size_t>(documents_.count()) + 1);
  created->starts.push_back(0);
  for (std::int64_t position = 0; position < documents_.count(); ++position)
    created->starts.push_back(created->starts.back() + corpus_.document_tokens(split_, documents_.at(epoch, position)));
  if (layouts_.size() == 2) layouts_.erase(layouts_.begin());
  layouts_.push_back(created);
  return created;
}

Packing::TokenSpan Packing::read(std::uint64_t epoch, std::int64_t index) const {
  const auto epoch_layout = layout(epoch);
  const std::vector<std::int64_t>& starts = epoch_layout->starts;
  const std::int64_t first = index * tokens_per_sequence_;
  const std::int64_t end = std::min(first + tokens_per_sequence_ + 1, tokens_);  // one more, as the last target

  TokenSpan span;
  span.tokens.resize(static_cast<std::size_t>(end - first));
  auto position = static_cast<std::size_t>(std::upper_bound(starts.begin(), starts.end(), first) - starts.begin() - 1);
  for (std::int64_t at = first; at < end; ++position) {
    if (at == starts[position]) span.starts.push_back(static_cast<int>(at - first));
    const std::int64_t count = std::min(end, starts[position + 1]) - at;
    corpus_.copy(split_, documents_.at(epoch, static_cast<std::int64_t>(position)), at - starts[position], count,
                 span.tokens.data() + (at - first));
    at += count;
  }
  return span;
}

void Packing::fill(std::uint64_t epoch, std::int64_t index, int row, Batch& batch) const {
  require(batch.tokens_per_sequence == tokens_per_sequence_, "Packing::fill: a batch of another sequence length");
  const TokenSpan span = read(epoch, index);
  const auto length = static_cast<int>(span.tokens.size());
  const bool inside_documents = kind_ == PackingKind::kDocuments;
  auto next_start = span.starts.begin();
  int segment = 0;  // where the segment of token t begins
  for (int t = 0; t < batch.tokens_per_sequence; ++t) {
    const bool starts = next_start != span.starts.end() && *next_start == t;
    if (starts) ++next_start;
    const bool ends = next_start != span.starts.end() && *next_start == t + 1;
    const bool is_padding = t >= length;
    if (inside_documents && (starts || t == length)) segment = t;

    const auto i = static_cast<std::size_t>(row) * static_cast<std::size_t>(batch.tokens_per_sequence) +
                   static_cast<std::size_t>(t);
    const bool has_target = t + 1 < length && !(inside_documents && ends);
    batch.ids[i] = is_padding ? 0 : span.tokens[static_cast<std::size_t>(t)];
    batch.targets[i] = has_target ? span.tokens[static_cast<std::size_t>(t) + 1] : 0;
    batch.weights[i] = has_target ? 1.0f : 0.0f;
    batch.positions[i] = t - segment;
    batch.key_start[i] = segment;
    batch.document_starts[i] = inside_documents && starts;
  }
}

}  // namespace slipway
