// Slices are read in place until their memory is about to change.
#include "io/checkpoint/copy_on_write_slices.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
#include <thread>
#include <vector>

namespace slipway {
namespace {

/// `count` slices of 3 x 5 elements in rows of 7, all in one block.
std::vector<SliceView> make_slices(const std::vector<float>& block, int count) {
  std::vector<SliceView> slices;
  for (int i = 0; i < count; ++i) slices.push_back({full_slice("t", "value", {3, 5}), block.data() + i * 21, 7});
  return slices;
}

std::vector<float> read_values(const SliceView& view) {
  std::vector<float> values;
  for (int row = 0; row < 3; ++row)
    for (int col = 0; col < 5; ++col) values.push_back(view.data[row * view.stride + col]);
  return values;
}

std::vector<float> iota_block(int count) {
  std::vector<float> block(static_cast<std::size_t>(count * 21));
  std::iota(block.begin(), block.end(), 1.0f);
  return block;
}

TEST(CopyOnWriteSlices, WhatWasTakenBeforeAChangeIsNotCopied) {
  std::vector<float> block = iota_block(4);
  const std::vector<SliceView> views = make_slices(block, 4);
  CopyOnWriteSlices slices;
  slices.snapshot();  // without a save there is nothing to do
  slices.assign(views);
  while (const auto lease = slices.lease_next()) EXPECT_EQ(lease->view().data, views[lease->index()].data);
  slices.snapshot();
  EXPECT_EQ(slices.copied_bytes(), 0u);
}

TEST(CopyOnWriteSlices, WhatIsLeftIsCopiedOnceAndKeepsItsNumbers) {
  std::vector<float> block = iota_block(4);
  CopyOnWriteSlices slices;
  for (int save = 0; save < 2; ++save) {
    slices.assign(make_slices(block, 4));
    std::vector<std::vector<float>> expected;
    for (const SliceView& view : slices.all()) expected.push_back(read_values(view));
    { EXPECT_EQ(read_values(slices.lease_next()->view()), expected[0]); }
    slices.snapshot();
    EXPECT_EQ(slices.copied_bytes(), 3 * 15 * sizeof(float));
    for (float& number : block) number += 1000;
    slices.snapshot();
    for (std::size_t i = 1; i < 4; ++i) EXPECT_EQ(read_values(slices.lease_next()->view()), expected[i]);
    EXPECT_FALSE(slices.lease_next());
  }
}

TEST(CopyOnWriteSlices, AChangeWaitsForWhoReads) {
  std::vector<float> block = iota_block(2);
  CopyOnWriteSlices slices;
  slices.assign(make_slices(block, 2));
  std::atomic<bool> changed{false};
  std::thread trainer_thread;
  {
    const auto lease = slices.lease_next();
    trainer_thread = std::thread([&] {
      slices.snapshot();
      changed = true;
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_FALSE(changed);
  }
  trainer_thread.join();
  EXPECT_TRUE(changed);
}

TEST(CopyOnWriteSlices, AWriteThatFailedHoldsNobodyUp) {
  std::vector<float> block = iota_block(3);
  CopyOnWriteSlices slices;
  slices.assign(make_slices(block, 3));
  slices.stop();
  slices.snapshot();
  EXPECT_EQ(slices.copied_bytes(), 0u);
  EXPECT_FALSE(slices.lease_next());
}

}  // namespace
}  // namespace slipway
