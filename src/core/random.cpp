#include "src/core/random.hpp"

#include <bit>
#include <cmath>
#include <numbers>

namespace slipway {
namespace {

constexpr std::uint32_t low_32_bits(std::uint64_t value) { return static_cast<std::uint32_t>(value); }
constexpr std::uint32_t high_32_bits(std::uint64_t value) { return static_cast<std::uint32_t>(value >> 32); }

}  // namespace

std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) {
  constexpr std::uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;  // Salmon et al., table 2
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;              // golden ratio, sqrt(3) - 1
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = kMultiplier0 * counter[0], product1 = kMultiplier1 * counter[2];
    counter = {high_32_bits(product1) ^ counter[1] ^ key[0], low_32_bits(product1),
               high_32_bits(product0) ^ counter[3] ^ key[1], low_32_bits(product0)};
    key = {key[0] + kWeyl0, key[1] + kWeyl1};
  }
  return counter;
}

std::uint64_t Random::bits(std::uint64_t index) const {
  const auto words = philox({low_32_bits(index), high_32_bits(index), low_32_bits(stream_), high_32_bits(stream_)},
                            {low_32_bits(seed_), high_32_bits(seed_)});
  return (static_cast<std::uint64_t>(words[1]) << 32) | words[0];
}

double Random::uniform(std::uint64_t index) const { return static_cast<double>(bits(index) >> 11) * 0x1p-53; }

float Random::normal(std::uint64_t index) const {
  const auto words = philox({low_32_bits(index), high_32_bits(index), low_32_bits(stream_), high_32_bits(stream_)},
                            {low_32_bits(seed_), high_32_bits(seed_)});
  const double radius = std::sqrt(-2.0 * std::log((words[0] + 0.5) * 0x1p-32));
  return static_cast<float>(radius * std::cos(2.0 * std::numbers::pi * (words[1] * 0x1p-32)));
}

std::uint64_t Random::uniform_int(std::uint64_t limit, std::uint64_t index) const {
  return static_cast<std::uint64_t>((static_cast<unsigned __int128>(bits(index)) * limit) >> 64);
}

std::uint64_t stream_of(const char* name) {
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a, 64 bits
  for (; *name != '\0'; ++name) hash = (hash ^ static_cast<unsigned char>(*name)) * 0x100000001b3u;
  return hash;
}

std::uint64_t permute(std::uint64_t index, std::uint64_t count, std::uint64_t seed, std::uint64_t stream) {
  if (count <= 1) return index;
  const int half_bits = (std::bit_width(count - 1) + 1) / 2;
  const std::uint64_t mask = (std::uint64_t{1} << half_bits) - 1;
  constexpr std::uint32_t kRounds = 6;  // four suffice for pseudo-randomness (Luby and Rackoff); two more cost nothing
  do {  // the network permutes [0, 4^half_bits); repeat while outside [0, count): under 4 rounds on average
    std::uint64_t left = index >> half_bits, right = index & mask;
    for (std::uint32_t round = 0; round < kRounds; ++round) {
      const auto words = philox({low_32_bits(right), high_32_bits(right), round, low_32_bits(stream)},
                                {low_32_bits(seed) ^ high_32_bits(stream), high_32_bits(seed)});
      const std::uint64_t mixed = left ^ (((static_cast<std::uint64_t>(words[1]) << 32) | words[0]) & mask);
      left = right;
      right = mixed;
    }
    index = (left << half_bits) | right;
  } while (index >= count);
  return index;
}

}  // namespace slipway
