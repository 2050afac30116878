// The first-fit allocator: allocated ranges are disjoint, and after all are freed the whole range is free.
#include "src/core/first_fit_allocator.hpp"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "src/core/error.hpp"

namespace slipway {
namespace {

TEST(FirstFitAllocatorTest, RangesAreDisjointAndAllOfThemAreFreedAgain) {
  constexpr std::size_t kSize = 1 << 20;
  FirstFitAllocator pieces(kSize);
  std::map<std::size_t, std::size_t> held;
  std::mt19937 dice(3);
  for (int turn = 0; turn < 5000; ++turn) {
    if (dice() % 2 == 0 || held.empty()) {
      const std::size_t bytes = dice() % 20000;
      const auto place = pieces.allocate(bytes);
      if (!place) continue;
      EXPECT_EQ(*place % FirstFitAllocator::kAlignment, 0u);
      EXPECT_LE(*place + bytes, kSize);
      const auto next = held.lower_bound(*place);
      EXPECT_TRUE(next == held.end() || *place + bytes <= next->first);
      EXPECT_TRUE(next == held.begin() || *place >= std::prev(next)->first + std::prev(next)->second);
      held[*place] = std::max<std::size_t>(bytes, 1);
    } else {
      auto one = held.begin();
      std::advance(one, dice() % held.size());
      EXPECT_GE(pieces.deallocate(one->first), one->second);
      held.erase(one);
    }
  }
  for (const auto& [place, bytes] : held) pieces.deallocate(place);
  EXPECT_TRUE(pieces.empty());
  EXPECT_EQ(pieces.allocate(kSize), 0u) << "holes that touch are one";
}

TEST(FirstFitAllocatorTest, TheLowestFreeRangeIsAllocatedAndTheHighWaterMarkIsKept) {
  FirstFitAllocator pieces(4096);
  EXPECT_EQ(pieces.allocate(1), 0u);
  EXPECT_EQ(pieces.allocate(600), 512u);
  EXPECT_EQ(pieces.allocate(512), 1536u);
  EXPECT_EQ(pieces.deallocate(512), 1024u);
  EXPECT_EQ(pieces.allocate(512), 512u);
  EXPECT_EQ(pieces.high_water(), 2048u);
  EXPECT_EQ(pieces.allocate(4096), std::nullopt);
  pieces.deallocate(1536);
  EXPECT_EQ(pieces.high_water(), 2048u);
  pieces.reset_high_water();
  EXPECT_EQ(pieces.high_water(), 1024u);
  EXPECT_THROW(pieces.deallocate(1536), Error);
}

}  // namespace
}  // namespace slipway
