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
std::vector<T> random_values(int rank, std::size_t count) {
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
std::vector<T> expected_tree_sum(int ranks, std::size_t count, int first, int span) {
  if (span == 1) return random_values<T>(first, count);
  std::vector<T> sum = expected_tree_sum<T>(ranks, count, first, span / 2);
  if (first + span / 2 >= ranks) return sum;
  const std::vector<T> upper = expected_tree_sum<T>(ranks, count, first + span / 2, span / 2);
  for (std::size_t i = 0; i < count; ++i) sum[i] = sum[i] + upper[i];
  return sum;
}

template <class T>
std::vector<T> expected_tree_sum(int ranks, std::size_t count) {
  return expected_tree_sum<T>(ranks, count, 0, static_cast<int>(std::bit_ceil(static_cast<unsigned>(ranks))));
}

template <class T>
std::size_t first_difference(const std::vector<T>& x, const std::vector<T>& y, std::size_t first, std::size_t count) {
  for (std::size_t i = first; i < first + count; ++i)
    if (std::memcmp(&x[i], &y[i], sizeof(T)) != 0) return i;
  return first + count;
}

/// Copies `x` to the group's memory space, calls `work` on the copy, and copies the result back to `x`.
template <class T, class Work>
void run_in_group_memory(Group& group, std::vector<T>& x, const Work& work) {
  Buffer<T> device_x(x.size(), group.space());
  if (!x.empty()) group.space().write(device_x.data(), x.data(), x.size() * sizeof(T));
  work(device_x.span());
  if (!x.empty()) group.space().read(x.data(), device_x.data(), x.size() * sizeof(T));
}

// Counts around the sizes where the algorithm changes: 0, 1, the gather's 16 KiB, chunks of 1 MiB, odd remainders.
inline const std::vector<std::size_t> kCounts = {0, 1, 2, 7, 1000, 4096, 4097, 8195, 540001};

template <class T>
void check_all_reduce(Group& group, std::size_t max_count = 1 << 20) {
  for (const std::size_t count : kCounts) {
    if (count > max_count) continue;
    const std::vector<T> expected = expected_tree_sum<T>(group.size(), count);
    std::vector<T> x = random_values<T>(group.rank(), count);
    run_in_group_memory(group, x, [&](std::span<T> device_x) { group.all_reduce_sum(device_x); });
    EXPECT_EQ(first_difference(x, expected, 0, count), count) << group.size() << " ranks, rank " << group.rank();
  }
}

inline void check_sum_against_f64(Group& group) {
  constexpr std::size_t kCount = 5003;
  std::vector<float> x = random_values<float>(group.rank(), kCount);
  run_in_group_memory(group, x, [&](std::span<float> device_x) { group.all_reduce_sum(device_x); });
  std::vector<double> expected(kCount), size(kCount);
  for (int r = 0; r < group.size(); ++r) {
    const std::vector<float> leaf = random_values<float>(r, kCount);
    for (std::size_t i = 0; i < kCount; ++i) expected[i] += leaf[i], size[i] += std::abs(leaf[i]);
  }
  for (std::size_t i = 0; i < kCount; ++i)  // at most log2(8) roundings of half a unit each
    ASSERT_NEAR(x[i], expected[i], 3 * 6e-8 * size[i]) << "i=" << i;
}

/// For groups whose size is a power of two.
inline void check_reduce_scatter(Group& group) {
  const auto size = static_cast<std::size_t>(group.size());
  for (const std::size_t shard_size :
       {std::size_t{0}, std::size_t{1}, std::size_t{3}, std::size_t{1001}, std::size_t{40001}}) {
    const std::size_t count = shard_size * size;
    const std::vector<float> expected = expected_tree_sum<float>(group.size(), count);
    std::vector<float> x = random_values<float>(group.rank(), count);
    Group::Range owned_shard;
    run_in_group_memory(group, x, [&](std::span<float> device_x) { owned_shard = group.reduce_scatter_sum(device_x); });
    EXPECT_EQ(owned_shard.count, shard_size);
    EXPECT_EQ(owned_shard.first, Group::shard_range(count, group.rank(), group.size()).first);
    EXPECT_EQ(first_difference(x, expected, owned_shard.first, owned_shard.count),
              owned_shard.first + owned_shard.count)
        << "rank " << group.rank();

    for (std::size_t i = 0; i < count; ++i)
      if (i < owned_shard.first || i >= owned_shard.first + owned_shard.count) x[i] = NAN;
    run_in_group_memory(group, x, [&](std::span<float> device_x) { group.all_gather_shards(device_x); });
    EXPECT_EQ(first_difference(x, expected, 0, count), count) << "rank " << group.rank();
  }
}

inline void check_primitives(Group& group) {
  const int rank = group.rank(), size = group.size();
  group.barrier();
  for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{1003}}) {
    for (int root = 0; root < size; ++root) {
      std::vector<char> x(count, static_cast<char>('a' + rank));
      run_in_group_memory(group, x, [&](std::span<char> device_x) { group.broadcast(device_x.data(), count, root); });
      EXPECT_EQ(x, std::vector<char>(count, static_cast<char>('a' + root)));
    }
    std::vector<char> mine(count, static_cast<char>('a' + rank)), all(count * static_cast<std::size_t>(size)), expected;
    for (int r = 0; r < size; ++r) expected.insert(expected.end(), count, static_cast<char>('a' + r));
    run_in_group_memory(group, mine, [&](std::span<char> from) {
      run_in_group_memory(group, all, [&](std::span<char> to) { group.all_gather(from.data(), count, to.data()); });
    });
    EXPECT_EQ(all, expected);

    std::fill(all.begin(), all.end(), '-');
    std::copy(mine.begin(), mine.end(), all.begin() + rank * static_cast<std::ptrdiff_t>(count));
    run_in_group_memory(group, all, [&](std::span<char> to) {
      group.all_gather(to.data() + static_cast<std::size_t>(rank) * count, count, to.data());
    });
    EXPECT_EQ(all, expected) << "in place";

    const int peer = rank ^ 1;
    std::vector<char> from(count);
    if (peer < size) {
      run_in_group_memory(group, mine, [&](std::span<char> send) {
        run_in_group_memory(group, from,
                            [&](std::span<char> to) { group.send_recv(peer, send.data(), to.data(), count); });
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

  std::vector<std::string> expected;
  for (int r = 0; r < size; ++r)
    expected.push_back(std::string(static_cast<std::size_t>(r * 7 % 5), static_cast<char>('a' + r)));
  EXPECT_EQ(group.all_gather_text(expected[static_cast<std::size_t>(rank)]), expected);
  EXPECT_EQ(group.all_gather_text(""), std::vector<std::string>(static_cast<std::size_t>(size)));
}

}  // namespace slipway
