#include "src/data/packing.hpp"

#include "src/core/error.hpp"
#include "src/core/hash.hpp"

namespace slipway {

Packing packing_of(const std::string& name) {
  if (name == "documents") return Packing::kDocuments;
  if (name == "stream") return Packing::kStream;
  throw Error(Fault::kConfig, join("data.packing is '", name, "'; expected documents or stream"));
}

void clear_batch(int sequences, int tokens, Batch& batch) {
  batch.sequences = sequences, batch.tokens = tokens;
  const auto size = static_cast<std::size_t>(sequences) * static_cast<std::size_t>(tokens);
  for (auto* column : {&batch.ids, &batch.targets, &batch.positions, &batch.first_key}) column->assign(size, 0);
  batch.weights.assign(size, 0.0f);
  batch.resets.assign(size, 0);
  batch.row_ids.assign(static_cast<std::size_t>(sequences), 0);
}

void synthetic_batch(int sequences, int tokens, Batch& batch) {
  clear_batch(sequences, tokens, batch);
  for (std::size_t r = 0; r < batch.ids.size(); ++r) {
    batch.weights[r] = 1;
    batch.positions[r] = static_cast<int>(r) % tokens;
  }
}

void pack(const TokenSpan& run, Packing packing, int row, Batch& batch) {
  const auto length = static_cast<int>(run.tokens.size());
  const bool inside_documents = packing == Packing::kDocuments;
  auto next_start = run.starts.begin();
  int segment = 0;  // where the segment of token t begins
  for (int t = 0; t < batch.tokens; ++t) {
    const bool starts = next_start != run.starts.end() && *next_start == t;
    if (starts) ++next_start;
    const bool ends = next_start != run.starts.end() && *next_start == t + 1;
    const bool is_padding = t >= length;
    if (inside_documents && (starts || t == length)) segment = t;

    const auto i = static_cast<std::size_t>(row) * static_cast<std::size_t>(batch.tokens) + static_cast<std::size_t>(t);
    const bool has_target = t + 1 < length && !(inside_documents && ends);
    batch.ids[i] = is_padding ? 0 : run.tokens[static_cast<std::size_t>(t)];
    batch.targets[i] = has_target ? run.tokens[static_cast<std::size_t>(t) + 1] : 0;
    batch.weights[i] = has_target ? 1.0f : 0.0f;
    batch.positions[i] = t - segment;
    batch.first_key[i] = segment;
    batch.resets[i] = inside_documents && starts;
  }
}

std::string batch_hash(const Batch& batch) {
  Sha256 hash;
  hash.add(batch.ids.data(), batch.ids.size() * sizeof batch.ids[0]);
  hash.add(batch.targets.data(), batch.targets.size() * sizeof batch.targets[0]);
  hash.add(batch.weights.data(), batch.weights.size() * sizeof batch.weights[0]);
  return hash.hex();
}

}  // namespace slipway
