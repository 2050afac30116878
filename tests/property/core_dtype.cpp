// Conversions between element types, over every 16-bit pattern and every tie between two of them.
#include "src/core/dtype.hpp"

#include <gtest/gtest.h>
#include <immintrin.h>

#include <cmath>
#include <limits>

namespace slipway {
namespace {

constexpr std::uint32_t kPatterns = 1u << 16;

/// A small float's value from its fields, in double precision: the definition of IEEE 754, section 3.4.
double value_of(std::uint32_t bits, int exponent_bits, int fraction_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = static_cast<int>(bits >> fraction_bits) & ((1 << exponent_bits) - 1);
  const double fraction = std::ldexp(bits & ((1u << fraction_bits) - 1), -fraction_bits);
  const double sign = (bits >> (exponent_bits + fraction_bits)) != 0 ? -1.0 : 1.0;
  if (exponent == (1 << exponent_bits) - 1)
    return fraction != 0 ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
  return sign * (exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias));
}

double f16_value(std::uint32_t bits) { return value_of(bits, 5, 10); }
double bf16_value(std::uint32_t bits) { return value_of(bits, 8, 7); }

TEST(DTypeTest, NamesAndSizes) {
  EXPECT_EQ(name(DType::kF32), "f32");
  EXPECT_EQ(name(DType::kBf16), "bf16");
  EXPECT_EQ(name(DType::kF16), "f16");
  EXPECT_EQ(bytes_of(DType::kF32), 4u);
  EXPECT_EQ(bytes_of(DType::kBf16), 2u);
  EXPECT_EQ(bytes_of(DType::kF16), 2u);
}

TEST(F16Test, EveryPatternHasItsIeeeValueAndComesBack) {
  for (std::uint32_t bits = 0; bits < kPatterns; ++bits) {
    const auto pattern = static_cast<std::uint16_t>(bits);
    const float value = f16_to_f32(pattern);
    if (std::isnan(f16_value(bits))) {
      ASSERT_TRUE(std::isnan(value)) << std::hex << bits;
      ASSERT_TRUE(std::isnan(f16_to_f32(to_f16_bits(value)))) << std::hex << bits;
    } else {
      ASSERT_EQ(value, f16_value(bits)) << std::hex << bits;
      ASSERT_EQ(to_f16_bits(value), pattern) << std::hex << bits;
    }
  }
}

TEST(F16Test, BetweenNeighboursTheNearestWinsAndTiesGoToEven) {
  for (std::uint32_t bits = 0; bits < 0x7c00; ++bits) {  // the last pair is 65504 and 65536, which f16 lacks
    const double above = bits == 0x7bff ? 65536.0 : f16_value(bits + 1);
    const auto middle = static_cast<float>((f16_value(bits) + above) / 2);  // exact: one bit more than a half has
    const auto even = static_cast<std::uint16_t>(bits + (bits & 1));
    ASSERT_EQ(to_f16_bits(middle), even) << std::hex << bits;
    ASSERT_EQ(to_f16_bits(std::nextafterf(middle, 0.0f)), bits) << std::hex << bits;
    ASSERT_EQ(to_f16_bits(std::nextafterf(middle, 1e9f)), bits + 1) << std::hex << bits;
    ASSERT_EQ(to_f16_bits(-middle), even | 0x8000u) << std::hex << bits;
  }
}

TEST(F16Test, EqualsTheProcessorsOwnConversion) {
#ifdef __F16C__
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += 4099) {  // an odd step meets every exponent
    const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    if (std::isnan(value)) continue;  // payloads may differ
    ASSERT_EQ(to_f16_bits(value), _cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT)) << std::hex << bits;
  }
#else
  GTEST_SKIP() << "built without F16C";
#endif
}

TEST(Bf16Test, EveryPatternHasItsIeeeValueAndComesBack) {
  for (std::uint32_t bits = 0; bits < kPatterns; ++bits) {
    const Bf16 pattern{static_cast<std::uint16_t>(bits)};
    const float value = to_f32(pattern);
    if (std::isnan(bf16_value(bits))) {
      ASSERT_TRUE(std::isnan(value)) << std::hex << bits;
      ASSERT_TRUE(std::isnan(to_f32(to_bf16(value)))) << std::hex << bits;
    } else {
      ASSERT_EQ(value, bf16_value(bits)) << std::hex << bits;
      ASSERT_EQ(to_bf16(value).bits, pattern.bits) << std::hex << bits;
    }
  }
}

TEST(Bf16Test, BetweenNeighboursTheNearestWinsAndTiesGoToEven) {
  for (std::uint32_t bits = 0; bits < 0x7f80; ++bits) {  // the last pair is the largest finite value and 2^128
    const double above = bits == 0x7f7f ? 0x1p128 : bf16_value(bits + 1);
    const auto middle = static_cast<float>((bf16_value(bits) + above) / 2);
    const auto even = bits + (bits & 1);
    ASSERT_EQ(to_bf16(middle).bits, even) << std::hex << bits;
    ASSERT_EQ(to_bf16(std::nextafterf(middle, 0.0f)).bits, bits) << std::hex << bits;
    ASSERT_EQ(to_bf16(std::nextafterf(middle, std::numeric_limits<float>::infinity())).bits, bits + 1)
        << std::hex << bits;
    ASSERT_EQ(to_bf16(-middle).bits, even | 0x8000u) << std::hex << bits;
  }
}

TEST(Bf16Test, ANaNWhoseBitsWouldRoundAwayStaysNaN) {
  for (const std::uint32_t bits : {0x7f800001u, 0x7fffffffu, 0xff800001u, 0xffffffffu}) {
    EXPECT_TRUE(std::isnan(to_f32(to_bf16(std::bit_cast<float>(bits))))) << std::hex << bits;
    EXPECT_TRUE(std::isnan(f16_to_f32(to_f16_bits(std::bit_cast<float>(bits))))) << std::hex << bits;
  }
}

}  // namespace
}  // namespace slipway
