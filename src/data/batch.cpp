#include "src/data/batch.hpp"

#include <algorithm>
#include <numeric>

#include "src/core/hash.hpp"

namespace slipway {

double Batch::weight_sum() const { return std::accumulate(weights.begin(), weights.end(), 0.0); }

std::int64_t Batch::target_count() const {
  return std::ranges::count_if(weights, [](float weight) { return weight > 0; });
}

void clear_batch(int sequences, int tokens_per_sequence, Batch& batch) {
  batch.sequences = sequences, batch.tokens_per_sequence = tokens_per_sequence;
  const auto size = static_cast<std::size_t>(sequences) * static_cast<std::size_t>(tokens_per_sequence);
  for (auto* column : {&batch.ids, &batch.targets, &batch.positions, &batch.key_start}) column->assign(size, 0);
  batch.weights.assign(size, 0.0f);
  batch.document_starts.assign(size, 0);
  batch.row_ids.assign(static_cast<std::size_t>(sequences), 0);
}

void synthetic_batch(int sequences, int tokens_per_sequence, Batch& batch) {
  clear_batch(sequences, tokens_per_sequence, batch);
  for (std::size_t r = 0; r < batch.ids.size(); ++r) {
    batch.weights[r] = 1;
    batch.positions[r] = static_cast<int>(r) % tokens_per_sequence;
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
