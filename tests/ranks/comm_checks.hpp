// Checks for every kind of group; all ranks of the group run them together.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "comm/group.hpp"

namespace slipway {

/// Values of very different magnitude, so that another order of the sum gives other bits.
template <class T>
std::vector<T> numbers_of(int rank, std::size_t count) {
  std::vector<T> x(count);
  std::uint64_t state = 1 + static_cast<std::uint64_t>(rank);
  for (T& one : x) {
    state = state * 6364136223846793005u + 1442695040888963407u;  // Knuth's linear congruential generator
    one = static_cast<T>(static_cast<std::int64_t>(state) >> (20 + state % 30));
  }
  return x;
}

/// The oracle: the sum in a binary tree over the ranks [first, first + span), by definition. Ranks from `ranks` on do
/// not exist.
template <class T>
std::vector<T> tree(int ranks, std::size_t count, int first, int span) {
  if (span == 1) return numbers_of<T>(first, count);
  std::vector<T> sum = tree<T>(ranks, count, first, span / 2);
  if (first + span / 2 >= ranks) return sum;
  const std::vector<T> upper = tree<T>(ranks, count, first + span / 2, span / 2);
  for (std::size_t i = 0; i < count; ++i) sum[i] = sum[i] + upper[i];
  return sum;
}

template <class T>
std::vector<T> tree(int ranks, std::size_t count) {
  return tree<T>(ranks, count, 0, static_cast<int>(std::bit_ceil(static_cast<unsigned>(ranks))));
}

template <class T>
std::size_t first_difference(const std::vector<T>& x, const std::vector<T>& y, std::size_t first, std::size_t count) {
  for (std::size_t i = first; i < first + count; ++i)
    if (std::memcmp(&x[i], &y[i], sizeof(T)) != 0) return i;
  return first + count;
}

/// Copies `x` to the group's memory space, calls `work` on the copy, and copies the result back to `x`.
template <class T, class Work>
void in_space_of(Group& group, std::vector<T>& x, const Work& work) {
  Buffer<T> there(x.size(), group.space());
  if (!x.empty()) group.space().write(there.data(), x.data(), x.size() * sizeof(T));
  work(there.span());
  if (!x.empty()) group.space().read(x.data(), there.data(), x.size() * sizeof(T));
}

// Counts around the sizes where the algorithm changes: 0, 1, the gather's 16 KiB, chunks of 1 MiB, odd remainders.
inline const std::vector<std::size_t> kCounts = {0, 1, 2, 7, 1000, 4096, 4097, 8195, 540001};

template <class T>
void check_all_reduce(Group& group, std::size_t most = 1 << 20) {
  for (const std::size_t count : kCounts) {
    if (count > most) continue;
    const std::vector<T> want = tree<T>(group.size(), count);
    std::vector<T> x = numbers_of<T>(group.rank(), count);
    in_space_of(group, x, [&](std::span<T> there) { group.all_reduce_sum(there); });
    EXPECT_EQ(first_difference(x, want, 0, count), count) << group.size() << " ranks, rank " << group.rank();
  }
}

inline void check_sum_against_f64(Group& group) {
  constexpr std::size_t kCount = 5003;
  std::vector<float> x = numbers_of<float>(group.rank(), kCount);
  in_space_of(group, x, [&](std::span<float> there) { group.all_reduce_sum(there); });
  std::vector<double> want(kCount), size(kCount);
  for (int r = 0; r < group.size(); ++r) {
    const std::vector<float> leaf = numbers_of<float>(r, kCount);
    for (std::size_t i = 0; i < kCount; ++i) want[i] += leaf[i], size[i] += std::abs(leaf[i]);
  }
  for (std::size_t i = 0; i < kCount; ++i)  // at most log2(8) roundings of half a unit each
    ASSERT_NEAR(x[i], want[i], 3 * 6e-8 * size[i]) << "i=" << i;
}

/// For groups whose size is a power of two.
inline void check_reduce_scatter(Group& group) {
  const auto size = static_cast<std::size_t>(group.size());
  for (const std::size_t pieces :
       {std::size_t{0}, std::size_t{1}, std::size_t{3}, std::size_t{1001}, std::size_t{40001}}) {
    const std::size_t count = pieces * size;
    const std::vector<float> want = tree<float>(group.size(), count);
    std::vector<float> x = numbers_of<float>(group.rank(), count);
    Group::Range own;
    in_space_of(group, x, [&](std::span<float> there) { own = group.reduce_scatter_sum(there); });
    EXPECT_EQ(own.count, pieces);
    EXPECT_EQ(own.first, Group::shard_range(count, group.rank(), group.size()).first);
    EXPECT_EQ(first_difference(x, want, own.first, own.count), own.first + own.count) << "rank " << group.rank();

    for (std::size_t i = 0; i < count; ++i)
      if (i < own.first || i >= own.first + own.count) x[i] = NAN;
    in_space_of(group, x, [&](std::span<float> there) { group.all_gather_shards(there); });
    EXPECT_EQ(first_difference(x, want, 0, count), count) << "rank " << group.rank();
  }
}

inline void check_primitives(Group& group) {
  const int rank = group.rank(), size = group.size();
  group.barrier();
  for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{1003}}) {
    for (int root = 0; root < size; ++root) {
      std::vector<char> x(count, static_cast<char>('a' + rank));
      in_space_of(group, x, [&](std::span<char> there) { group.broadcast(there.data(), count, root); });
      EXPECT_EQ(x, std::vector<char>(count, static_cast<char>('a' + root)));
    }
    std::vector<char> mine(count, static_cast<char>('a' + rank)), all(count * static_cast<std::size_t>(size)), want;
    for (int r = 0; r < size; ++r) want.insert(want.end(), count, static_cast<char>('a' + r));
    in_space_of(group, mine, [&](std::span<char> from) {
      in_space_of(group, all, [&](std::span<char> to) { group.all_gather(from.data(), count, to.data()); });
    });
    EXPECT_EQ(all, want);

    std::fill(all.begin(), all.end(), '-');
    std::copy(mine.begin(), mine.end(), all.begin() + rank * static_cast<std::ptrdiff_t>(count));
    in_space_of(group, all, [&](std::span<char> to) {
      group.all_gather(to.data() + static_cast<std::size_t>(rank) * count, count, to.data());
    });
    EXPECT_EQ(all, want) << "in place";

    const int peer = rank ^ 1;
    std::vector<char> from(count);
    if (peer < size) {
      in_space_of(group, mine, [&](std::span<char> send) {
        in_space_of(group, from, [&](std::span<char> to) { group.send_recv(peer, send.data(), to.data(), count); });
      });
      EXPECT_EQ(from, std::vector<char>(count, static_cast<char>('a' + peer)));
    }
  }
}

inline void check_scalars(Group& group) {
  const int rank = group.rank(), size = group.size();
  EXPECT_EQ(group.all_reduce_max(-1.5 * rank), 0.0);
  EXPECT_EQ(group.all_reduce_max(rank), size - 1);
  constexpr std::int64_t kLarge = std::int64_t{1} << 60;  // beyond what a double can count
  EXPECT_EQ(group.all_reduce_sum(rank == 0 ? kLarge : std::int64_t{rank}), kLarge + size * (size - 1) / 2);
  EXPECT_TRUE(group.all_agree(true));
  for (int r = 0; r < size; ++r) EXPECT_FALSE(group.all_agree(rank != r));

  std::vector<std::string> want;
  for (int r = 0; r < size; ++r)
    want.push_back(std::string(static_cast<std::size_t>(r * 7 % 5), static_cast<char>('a' + r)));
  EXPECT_EQ(group.all_gather_text(want[static_cast<std::size_t>(rank)]), want);
  EXPECT_EQ(group.all_gather_text(""), std::vector<std::string>(static_cast<std::size_t>(size)));
}

}  // namespace slipway
