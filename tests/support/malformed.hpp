// Checks that a reader handles malformed files: truncated at every byte, and with flipped bytes.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "src/core/error.hpp"
#include "src/core/random.hpp"

namespace slipway::test {

/// Writes a new file. An existing one is removed, not truncated, since ext4 flushes a truncated file on close, which is
/// slow for thousands of files.
inline void write_new_file(const std::filesystem::path& path, const std::string& bytes) {
  std::filesystem::remove(path);
  std::ofstream(path, std::ios::binary) << bytes;
}

/// `open(bytes)` must return or throw Error(fault); anything else, a crash included, fails the test. True: it returned.
template <class Open>
bool opens_or_refuses(const std::string& bytes, Fault fault, Open&& open) {
  try {
    open(bytes);
    return true;
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), fault) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << "one sentence is one line: " << error.what();
  } catch (const std::exception& other) {
    ADD_FAILURE() << "threw something that is no Error: " << other.what();
  }
  return false;
}

/// Every file cut before `min_valid_size` bytes must be refused with a sentence.
template <class Open>
void expect_truncation_refused(const std::string& valid_bytes, std::size_t min_valid_size, Fault fault, Open&& open) {
  for (std::size_t length = 0; length < min_valid_size; ++length)
    ASSERT_FALSE(opens_or_refuses(valid_bytes.substr(0, length), fault, open))
        << "cut to " << length << " of " << valid_bytes.size() << " bytes";
}

/// `rounds` copies with one to four bytes changed among the first `region`: each must open or be refused with a
/// sentence.
template <class Open>
void expect_byte_flips_handled(const std::string& valid_bytes, std::size_t region, int rounds, Fault fault,
                               Open&& open) {
  const Random random(/*seed=*/11, stream_of("flips"));
  std::uint64_t draw = 0;
  for (int round = 0; round < rounds; ++round) {
    std::string damaged = valid_bytes;
    const std::uint64_t changes = 1 + random.uniform_int(4, draw++);
    for (std::uint64_t i = 0; i < changes; ++i) {
      const std::uint64_t offset = random.uniform_int(region, draw++);
      damaged[offset] = static_cast<char>(random.uniform_int(4, draw) == 0 ? 0xff : random.uniform_int(256, draw + 1));
      draw += 2;
    }
    opens_or_refuses(damaged, fault, open);
    ASSERT_FALSE(testing::Test::HasFailure()) << "in round " << round;
  }
}

}  // namespace slipway::test
