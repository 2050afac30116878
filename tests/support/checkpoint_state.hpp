// Shared by the tests of checkpoints: tensors to save, their division among ranks, and a save by all ranks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "io/checkpoint/checkpoint.hpp"
#include "src/core/random.hpp"
#include "src/train/checkpoint_saver.hpp"

namespace slipway {

/// Whole tensors by (kind, name).
struct TensorState {
  struct Entry {
    std::vector<std::int64_t> shape;
    std::vector<float> numbers;
  };
  std::map<std::pair<std::string, std::string>, Entry> entries;

  /// Adds a tensor and both its moments, filled with seeded random values.
  void add(const std::string& name, const std::vector<std::int64_t>& shape, std::uint64_t seed) {
    const auto [rows, cols] = rows_cols(shape);
    std::uint64_t stream = 0;
    for (const char* kind : {"value", "adam_m", "adam_v"}) {
      Entry entry{shape, std::vector<float>(static_cast<std::size_t>(rows * cols))};
      const Random random(seed, stream++);
      for (std::size_t i = 0; i < entry.numbers.size(); ++i) entry.numbers[i] = random.normal(i);
      entries[{kind, name}] = std::move(entry);
    }
  }
};

/// The shards of one rank and their memory, padding included; a shard holds its elements [first, last) only.
struct RankShards {
  struct Part {
    Shard shard;
    std::int64_t first = 0, last = 0;
    std::vector<float> numbers;  ///< of [first, last)
  };
  std::deque<Part> parts;

  std::vector<SliceView> slices() const {
    std::vector<SliceView> views;
    for (const Part& part : parts)
      for (const Rectangle& piece : rectangles(part.shard, part.first, part.last))
        views.push_back(piece.view(part.numbers.data()));
    return views;
  }
};

inline constexpr float kPaddingValue = -77.0f;  // must never be saved, and never be overwritten by a load

/// Shards the tensors over data * tensor ranks as the trainer does: by rows, by columns or replicated over tensor
/// ranks, with padding where they do not divide evenly; then each local tensor's flat range over data ranks, at seeded
/// bounds.
inline std::vector<RankShards> shard_state(const TensorState& state, int data, int tensor, std::uint64_t seed) {
  std::vector<RankShards> ranks(static_cast<std::size_t>(data * tensor));
  const Random random(seed, stream_of("divide"));
  std::uint64_t draw_index = 0;
  for (const auto& [key, entry] : state.entries) {
    const auto [rows, cols] = rows_cols(entry.shape);
    const int axis = entry.shape.size() == 1 ? static_cast<int>(1 + random.uniform_int(2, draw_index++))
                                             : static_cast<int>(random.uniform_int(3, draw_index++));
    for (int t = 0; t < tensor; ++t) {
      Shard shard{key.second, key.first, entry.shape, {0, 0}, {rows, cols}};
      if (axis < 2) {  // split; the last ranks may hold padding only
        const std::int64_t rows_per_rank = ((axis == 0 ? rows : cols) + tensor - 1) / tensor;
        shard.local_shape[static_cast<std::size_t>(axis)] = rows_per_rank;
        shard.offset[static_cast<std::size_t>(axis)] = t * rows_per_rank;
      } else if (t > 0) {
        continue;  // held by all, saved by the first
      }
      const std::int64_t size = shard.local_shape[0] * shard.local_shape[1];
      std::vector<std::int64_t> bounds{0, size};
      for (int d = 1; d < data; ++d)
        bounds.push_back(
            static_cast<std::int64_t>(random.uniform_int(static_cast<std::uint64_t>(size) + 1, draw_index++)));
      std::sort(bounds.begin(), bounds.end());
      for (int d = 0; d < data; ++d) {
        RankShards::Part part{shard, bounds[static_cast<std::size_t>(d)], bounds[static_cast<std::size_t>(d) + 1], {}};
        for (std::int64_t i = part.first; i < part.last; ++i) {
          const std::int64_t row = shard.offset[0] + i / shard.local_shape[1],
                             col = shard.offset[1] + i % shard.local_shape[1];
          part.numbers.push_back(row < rows && col < cols ? entry.numbers[static_cast<std::size_t>(row * cols + col)]
                                                          : kPaddingValue);
        }
        ranks[static_cast<std::size_t>(d * tensor + t)].parts.push_back(std::move(part));
      }
    }
  }
  return ranks;
}

/// The metadata of a small run.
inline CheckpointInfo make_small_info(std::int64_t step) {
  CheckpointInfo info;
  info.step = step;
  info.run_id = "1a2b3c4d5e6f";
  info.config = {{"train.steps", "10"}};
  info.architecture = {{"name", "llama"}, {"layers", 2}};
  info.tokenizer = "{\"version\":\"1.0\",\"text\":\"\xc3\xa9\"}";
  info.data = {{"corpus_sha256", std::string(64, 'c')}, {"cursor", {{"epoch", 0}, {"index", 160}}}};
  info.random = {{"seed", 1}};
  info.history = {{"val_loss", {{{"step", step}, {"loss", 2.5}}}}};
  info.build = {{"version", "0.1.0"}};
  info.sections = {{"note", {1, 2, 3}}};
  return info;
}

/// Saves with one writer per rank, as processes would, and returns the published folder.
inline std::filesystem::path save(const std::filesystem::path& checkpoints, const CheckpointInfo& info,
                                  const std::vector<RankShards>& ranks) {
  std::vector<std::unique_ptr<CheckpointWriter>> writers;
  for (std::size_t r = 0; r < ranks.size(); ++r)
    writers.push_back(
        std::make_unique<CheckpointWriter>(checkpoints, static_cast<int>(r), static_cast<int>(ranks.size())));
  try {
    for (std::size_t r = 0; r < ranks.size(); ++r) writers[r]->begin(info, ranks[r].slices());
    for (auto& writer : writers) writer->wait();
    writers[0]->publish();
    writers[0]->wait();
    for (auto& writer : writers) writer->finish();
  } catch (...) {
    while (!writers.empty())
      writers.pop_back();  // rank 0 last, as CheckpointSaver does: it removes what the others write
    throw;
  }
  return checkpoints / checkpoint_name(info.step);
}

/// Tensors of odd sizes with one and two axes, small enough that a test can flip every byte of every file.
inline TensorState make_small_state(std::uint64_t seed = 1) {
  TensorState state;
  state.add("embedding.weight", {11, 6}, seed);
  state.add("blk.0.attn_norm.weight", {7}, seed + 1);
  state.add("blk.0.ffn_down.weight", {5, 9}, seed + 2);
  return state;
}

}  // namespace slipway
