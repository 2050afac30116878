// Element types of tensors, and exact conversions between them.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "src/core/host_device.hpp"

namespace slipway {

/// How one element of a tensor is stored.
enum class DType : std::uint8_t { kF32, kBf16, kF16 };

std::string_view name(DType dtype);  ///< "f32", "bf16", "f16"
constexpr std::size_t bytes_of(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

/// A brain float: the upper half of an f32. A struct, so that it never mixes with integers.
struct Bf16 {
  std::uint16_t bits = 0;
};

/// Nearest bf16, ties to even; NaN stays NaN.
SLIPWAY_HD inline Bf16 to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}
SLIPWAY_HD inline float to_f32(Bf16 value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}
SLIPWAY_HD inline float to_f32(float value) { return value; }

/// The DType of a C++ type.
template <class T>
inline constexpr DType kDTypeOf = DType::kF32;
template <>
inline constexpr DType kDTypeOf<Bf16> = DType::kBf16;

/// An f32 as a T: itself, or the nearest bf16.
template <class T>
SLIPWAY_HD inline T cast_to(float value) {
  if constexpr (kDTypeOf<T> == DType::kBf16) {
    return to_bf16(value);
  } else {
    return value;
  }
}

/// Nearest IEEE half, ties to even; overflow gives infinity, NaN stays NaN.
std::uint16_t to_f16_bits(float value);
float f16_to_f32(std::uint16_t bits);

/// "f32", "bf16" or "auto" (bf16 where the hardware multiplies it) as a type. Errors: Fault::kConfig for another word.
DType resolve_compute(const std::string& compute, bool native_bf16);

}  // namespace slipway
