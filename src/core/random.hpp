// Random numbers as a function of (seed, stream, index): stateless, so ranks and restarts cannot change them.
#pragma once

#include <array>
#include <cstdint>

namespace slipway {

/// Philox-4x32 with ten rounds: four 32-bit words for one counter and key.
/// Source   Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011.
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key);

/// One named sequence of random numbers. `Random(seed, stream).normal(i)` is the same on every rank and host.
class Random {
 public:
  Random(std::uint64_t seed, std::uint64_t stream) : seed_(seed), stream_(stream) {}

  std::uint64_t bits(std::uint64_t index) const;
  double uniform(std::uint64_t index) const;  ///< in [0, 1), 53 bits
  float normal(std::uint64_t index) const;    ///< mean 0, deviation 1, by Box and Muller
  std::uint64_t uniform_int(std::uint64_t limit,
                            std::uint64_t index) const;  ///< in [0, limit), bias below 2^-32 for limits below 2^32

 private:
  std::uint64_t seed_;
  std::uint64_t stream_;
};

/// A stream number from a name (its hash), so that streams are named by their purpose.
std::uint64_t stream_of(const char* name);

/// Position `index` of a pseudo-random permutation of [0, count): a keyed Feistel network with cycle walking,
/// so that any position of any epoch costs O(1) and no memory.
std::uint64_t permute(std::uint64_t index, std::uint64_t count, std::uint64_t seed, std::uint64_t stream);

}  // namespace slipway
