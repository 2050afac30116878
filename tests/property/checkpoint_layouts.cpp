// Laws over seeded random tensors, layouts and cuts.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "src/core/file.hpp"
#include "tests/support/checkpoint_state.hpp"
#include "tests/support/core_files.hpp"

namespace slipway {
namespace {

TEST(Rectangles, CoverEveryElementOfARangeOnceAndLeavePaddingOut) {
  const Random random(3, 0);
  std::uint64_t draw_index = 0;
  const auto below = [&](std::int64_t limit) {
    return static_cast<std::int64_t>(random.uniform_int(static_cast<std::uint64_t>(limit), draw_index++));
  };
  for (int round = 0; round < 2000; ++round) {
    Shard shard{"t", "value", {1 + below(7), 1 + below(7)}, {}, {1 + below(9), 1 + below(9)}};
    shard.offset = {below(8), below(8)};
    const std::int64_t size = shard.local_shape[0] * shard.local_shape[1];
    const std::int64_t first = below(size + 1), last = first + below(size - first + 1);

    std::set<std::int64_t> expected, actual;
    for (std::int64_t i = first; i < last; ++i)
      if (shard.offset[0] + i / shard.local_shape[1] < shard.shape[0] &&
          shard.offset[1] + i % shard.local_shape[1] < shard.shape[1])
        expected.insert(i);
    const auto pieces = rectangles(shard, first, last);
    ASSERT_LE(pieces.size(), 3u);
    for (const Rectangle& piece : pieces)
      for (std::int64_t r = 0; r < piece.extent[0]; ++r)
        for (std::int64_t c = 0; c < piece.extent[1]; ++c) {
          const std::int64_t i = first + piece.start + r * piece.stride + c;
          ASSERT_TRUE(actual.insert(i).second) << "element " << i << " twice";
          ASSERT_EQ(shard.offset[0] + i / shard.local_shape[1], piece.offset[0] + r);
          ASSERT_EQ(shard.offset[1] + i % shard.local_shape[1], piece.offset[1] + c);
        }
    ASSERT_EQ(actual, expected) << "round " << round;
  }
}

TEST(CheckpointLayouts, WhatOneLayoutSavesEveryOtherLoadsToTheBit) {
  const Random random(5, 0);
  std::uint64_t draw_index = 0;
  for (int round = 0; round < 12; ++round) {
    TensorState state;
    for (int t = 0; t < 4; ++t) {
      std::vector<std::int64_t> shape{static_cast<std::int64_t>(1 + random.uniform_int(23, draw_index++))};
      if (t % 2 == 0) shape.push_back(static_cast<std::int64_t>(1 + random.uniform_int(23, draw_index++)));
      state.add(join("tensor.", t), shape, static_cast<std::uint64_t>(100 * round + t));
    }
    const auto layout = [&] {
      const std::uint64_t drawn = random.uniform_int(12, draw_index++);
      return std::pair(static_cast<int>(1 + drawn % 4), static_cast<int>(1 + drawn / 4));
    };
    const ScratchFolder scratch;
    const auto [data, tensor] = layout();
    const auto folder = save(scratch.path(), make_small_info(round),
                             shard_state(state, data, tensor, static_cast<std::uint64_t>(round)));

    const auto [data2, tensor2] = layout();
    for (RankShards& rank : shard_state(state, data2, tensor2, static_cast<std::uint64_t>(round + 1000))) {
      CheckpointReader reader(folder);
      for (RankShards::Part& part : rank.parts) {
        std::vector<float> loaded(part.numbers.size(), kPaddingValue);
        for (const Rectangle& piece : rectangles(part.shard, part.first, part.last))
          reader.read(piece, loaded.data() + piece.start, piece.stride);
        ASSERT_EQ(loaded, part.numbers) << part.shard.kind << " of " << part.shard.tensor << ", " << data << "x"
                                        << tensor << " to " << data2 << "x" << tensor2;
      }
    }
  }
}

TEST(CheckpointLayouts, TheProvenanceHashDoesNotDependOnTheLayout) {
  const TensorState state = make_small_state();
  const ScratchFolder scratch;
  std::set<std::string> hashes;
  for (const auto& [data, tensor] : {std::pair(1, 1), {2, 1}, {4, 1}, {1, 2}, {2, 3}}) {
    CheckpointReader reader(
        save(scratch.path(), make_small_info(data * 10 + tensor), shard_state(state, data, tensor, 9)));
    hashes.insert(provenance_sha256(reader));
  }
  EXPECT_EQ(hashes.size(), 1u);

  TensorState other = state;
  float& number = other.entries[{"value", "blk.0.attn_norm.weight"}].numbers[3];
  number = std::nextafter(number, 9.0f);
  CheckpointReader reader(save(scratch.path(), make_small_info(99), shard_state(other, 1, 1, 9)));
  EXPECT_FALSE(hashes.contains(provenance_sha256(reader)));
}

TEST(CheckpointLayouts, TheSameStateInTheSameLayoutGivesTheSameTensorsInTheManifest) {
  const auto tensors = [](const std::filesystem::path& folder) {
    std::string text;
    for (const StoredTensor& tensor : read_manifest(folder).tensors) text += to_json(tensor).dump();
    return text;
  };
  const ScratchFolder scratch;
  const auto first = save(scratch / "a", make_small_info(4), shard_state(make_small_state(), 2, 2, 7));
  const auto second = save(scratch / "b", make_small_info(4), shard_state(make_small_state(), 2, 2, 7));
  EXPECT_EQ(tensors(first), tensors(second));
  EXPECT_EQ(read_file(first / kIndexName, Fault::kStorage), read_file(second / kIndexName, Fault::kStorage));
}

}  // namespace
}  // namespace slipway
