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
  FirstFitAllocator allocator(kSize);
  std::map<std::size_t, std::size_t> allocated;
  std::mt19937 rng(3);
  for (int iteration = 0; iteration < 5000; ++iteration) {
    if (rng() % 2 == 0 || allocated.empty()) {
      const std::size_t bytes = rng() % 20000;
      const auto offset = allocator.allocate(bytes);
      if (!offset) continue;
      EXPECT_EQ(*offset % FirstFitAllocator::kAlignment, 0u);
      EXPECT_LE(*offset + bytes, kSize);
      const auto next = allocated.lower_bound(*offset);
      EXPECT_TRUE(next == allocated.end() || *offset + bytes <= next->first);
      EXPECT_TRUE(next == allocated.begin() || *offset >= std::prev(next)->first + std::prev(next)->second);
      allocated[*offset] = std::max<std::size_t>(bytes, 1);
    } else {
      auto entry = allocated.begin();
      std::advance(entry, rng() % allocated.size());
      EXPECT_GE(allocator.deallocate(entry->first), entry->second);
      allocated.erase(entry);
    }
  }
  for (const auto& [offset, bytes] : allocated) allocator.deallocate(offset);
  EXPECT_TRUE(allocator.empty());
  EXPECT_EQ(allocator.allocate(kSize), 0u) << "holes that touch are one";
}

TEST(FirstFitAllocatorTest, TheLowestFreeRangeIsAllocatedAndTheHighWaterMarkIsKept) {
  FirstFitAllocator allocator(4096);
  EXPECT_EQ(allocator.allocate(1), 0u);
  EXPECT_EQ(allocator.allocate(600), 512u);
  EXPECT_EQ(allocator.allocate(512), 1536u);
  EXPECT_EQ(allocator.deallocate(512), 1024u);
  EXPECT_EQ(allocator.allocate(512), 512u);
  EXPECT_EQ(allocator.high_water(), 2048u);
  EXPECT_EQ(allocator.allocate(4096), std::nullopt);
  allocator.deallocate(1536);
  EXPECT_EQ(allocator.high_water(), 2048u);
  allocator.reset_high_water();
  EXPECT_EQ(allocator.high_water(), 1024u);
  EXPECT_THROW(allocator.deallocate(1536), Error);
}

}  // namespace
}  // namespace slipway
