// Pieces of a range: never two in one place, and all of it again when they have come back.
#include "src/core/pieces.hpp"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "src/core/error.hpp"

namespace slipway {
namespace {

TEST(Pieces, AreApartAndComeBackWhole) {
  constexpr std::size_t kSize = 1 << 20;
  Pieces pieces(kSize);
  std::map<std::size_t, std::size_t> held;
  std::mt19937 dice(3);
  for (int turn = 0; turn < 5000; ++turn) {
    if (dice() % 2 == 0 || held.empty()) {
      const std::size_t bytes = dice() % 20000;
      const auto place = pieces.take(bytes);
      if (!place) continue;
      EXPECT_EQ(*place % Pieces::kGranule, 0u);
      EXPECT_LE(*place + bytes, kSize);
      const auto next = held.lower_bound(*place);
      EXPECT_TRUE(next == held.end() || *place + bytes <= next->first);
      EXPECT_TRUE(next == held.begin() || *place >= std::prev(next)->first + std::prev(next)->second);
      held[*place] = std::max<std::size_t>(bytes, 1);
    } else {
      auto one = held.begin();
      std::advance(one, dice() % held.size());
      EXPECT_GE(pieces.give_back(one->first), one->second);
      held.erase(one);
    }
  }
  for (const auto& [place, bytes] : held) pieces.give_back(place);
  EXPECT_TRUE(pieces.empty());
  EXPECT_EQ(pieces.take(kSize), 0u) << "holes that touch are one";
}

TEST(Pieces, TakeTheLowestHoleAndTellTheTop) {
  Pieces pieces(4096);
  EXPECT_EQ(pieces.take(1), 0u);
  EXPECT_EQ(pieces.take(600), 512u);
  EXPECT_EQ(pieces.take(512), 1536u);
  EXPECT_EQ(pieces.give_back(512), 1024u);
  EXPECT_EQ(pieces.take(512), 512u);
  EXPECT_EQ(pieces.top(), 2048u);
  EXPECT_EQ(pieces.take(4096), std::nullopt);
  pieces.give_back(1536);
  EXPECT_EQ(pieces.top(), 2048u);
  pieces.restart_top();
  EXPECT_EQ(pieces.top(), 1024u);
  EXPECT_THROW(pieces.give_back(1536), Error);
}

}  // namespace
}  // namespace slipway
