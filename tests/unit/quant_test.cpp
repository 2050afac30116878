// Rows of f32 as bytes of model files. Whole rows against the reference package: tests/interop/gguf_oracle.py.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "io/model/block_quant.hpp"
#include "src/core/random.hpp"
#include "tests/support/core_files.hpp"

namespace slipway {
namespace {

constexpr TensorType kAllTypes[] = {TensorType::kF32, TensorType::kF16, TensorType::kBf16, TensorType::kQ8_0,
                                    TensorType::kQ4_0};

std::vector<std::byte> encode_values(TensorType type, const std::vector<float>& values) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(bytes_of(type, static_cast<std::int64_t>(values.size()))));
  encode(type, values, bytes);
  return bytes;
}

std::vector<float> decode_values(TensorType type, const std::vector<std::byte>& bytes, std::size_t count) {
  std::vector<float> values(count);
  decode(type, bytes, values);
  return values;
}

std::vector<float> normal_values(std::size_t count, std::uint64_t seed) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = Random(seed, 3).normal(i);
  return values;
}

int byte_at(const std::vector<std::byte>& bytes, std::size_t i) { return std::to_integer<int>(bytes[i]); }

TEST(Quant, EightBitBlocksRoundHalvesAwayFromZero) {
  std::vector<float> x(32, 0.0f);
  x[0] = 127.0f;  // so that d = 1 and quants are the values themselves
  x[1] = 2.5f, x[2] = -2.5f, x[3] = 0.49999997f, x[4] = -127.0f, x[31] = 3.5f;
  const auto bytes = encode_values(TensorType::kQ8_0, x);
  ASSERT_EQ(bytes.size(), 34u);
  EXPECT_EQ(byte_at(bytes, 0) | byte_at(bytes, 1) << 8, 0x3c00);  // 1 as f16
  const auto quant = [&](std::size_t i) { return static_cast<int>(static_cast<std::int8_t>(byte_at(bytes, 2 + i))); };
  EXPECT_EQ(quant(0), 127);
  EXPECT_EQ(quant(1), 3);
  EXPECT_EQ(quant(2), -3);
  EXPECT_EQ(quant(3), 0);
  EXPECT_EQ(quant(4), -127);
  EXPECT_EQ(quant(31), 4);
}

TEST(Quant, FourBitBlocksScaleByTheFirstEntryOfLargestMagnitudeWithItsSign) {
  std::vector<float> x(32, 0.0f);
  x[0] = 1.0f, x[1] = 8.0f, x[2] = -8.0f, x[16] = -4.0f, x[17] = 0.25f;
  const auto bytes = encode_values(TensorType::kQ4_0, x);
  ASSERT_EQ(bytes.size(), 18u);
  EXPECT_EQ(byte_at(bytes, 0) | byte_at(bytes, 1) << 8, 0xbc00);  // d = 8 / -8
  EXPECT_EQ(byte_at(bytes, 2), 7 | 12 << 4);                      // -1 + 8.5 and 4 + 8.5, cut
  EXPECT_EQ(byte_at(bytes, 3), 0 | 8 << 4);                       // -8 + 8.5, and -0.25 + 8.5
  EXPECT_EQ(byte_at(bytes, 4), 15 | 8 << 4);                      // 8 + 8.5 does not fit and becomes 15
}

TEST(Quant, ZerosAndTheTiniestNumbersGiveZeros) {
  for (const TensorType type : {TensorType::kQ8_0, TensorType::kQ4_0})
    for (const float tiny : {0.0f, -0.0f, 1e-45f, -1e-39f})
      for (const float value : decode_values(type, encode_values(type, std::vector<float>(32, tiny)), 32))
        EXPECT_EQ(value, 0.0f);
}

TEST(Quant, ErrorsStayWithinHalfAStep) {
  const auto x = normal_values(64 * 32, 5);
  for (const TensorType type : {TensorType::kQ8_0, TensorType::kQ4_0}) {
    const auto y = decode_values(type, encode_values(type, x), x.size());
    for (std::size_t block = 0; block < x.size(); block += 32) {
      float largest = 0.0f;
      for (std::size_t i = block; i < block + 32; ++i) largest = std::max(largest, std::fabs(x[i]));
      // half a step; a whole one at the end of Q4_0's scale that has no 16th step; f16 rounds the scale by 2^-11
      const float step = type == TensorType::kQ8_0 ? largest / 127.0f * 0.5f : largest / 8.0f;
      for (std::size_t i = block; i < block + 32; ++i)
        ASSERT_LE(std::fabs(x[i] - y[i]), step + largest * 0.0005f) << "at " << i;
    }
  }
}

TEST(Quant, StoredValuesEncodeToTheSameBytesAgain) {
  const auto x = normal_values(5000 / 32 * 32, 6);
  for (const TensorType type : {TensorType::kF32, TensorType::kF16, TensorType::kBf16}) {
    const auto bytes = encode_values(type, x);
    EXPECT_EQ(encode_values(type, decode_values(type, bytes, x.size())), bytes) << name(type);
  }
}

TEST(Quant, ChunksOfThreadsDoNotShowInTheBytes) {
  const auto x = normal_values(3 * 4096 + 32, 7);  // more than three chunks, the last one a single block
  for (const TensorType type : kAllTypes) {
    const auto all_at_once = encode_values(type, x);
    std::vector<std::byte> by_blocks;
    for (std::size_t first = 0; first < x.size(); first += 32) {
      const auto block = encode_values(
          type, {x.begin() + static_cast<std::ptrdiff_t>(first), x.begin() + static_cast<std::ptrdiff_t>(first) + 32});
      by_blocks.insert(by_blocks.end(), block.begin(), block.end());
    }
    EXPECT_EQ(all_at_once, by_blocks) << name(type);
  }
}

TEST(Quant, TheLargestMagnitudeIsFiniteAndTheNextIsNot) {
  for (const TensorType type : {TensorType::kF16, TensorType::kBf16, TensorType::kQ8_0, TensorType::kQ4_0}) {
    std::vector<float> x(32, 0.0f);
    x[5] = largest_magnitude(type);
    EXPECT_TRUE(std::isfinite(decode_values(type, encode_values(type, x), 32)[5])) << name(type);
    x[5] *= type == TensorType::kBf16 ? 1.002f : 1.001f;
    EXPECT_FALSE(std::isfinite(decode_values(type, encode_values(type, x), 32)[5])) << name(type);
  }
}

TEST(Quant, NamesGoBothWaysAndAnUnknownOneListsAll) {
  for (const TensorType type : kAllTypes) EXPECT_EQ(tensor_type_of(std::string(name(type))), type);
  expect_error(Fault::kConfig, "the type 'q5' is not known; take f32, f16, bf16, q8_0 or q4_0",
               [] { tensor_type_of("q5"); });
}

}  // namespace
}  // namespace slipway
