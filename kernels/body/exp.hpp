// The exponential function, as a polynomial that vector units can run lane by lane.
#pragma once

#include <bit>
#include <cstdint>

#include "kernels/team.hpp"

namespace slipway::body {

/// `a * b + c`, with a single rounding where the machine has FMA.
SLIPWAY_HD inline float fmadd(float a, float b, float c) {
#if defined(__FMA__) || defined(__CUDA_ARCH__)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

/// `e^x` without a branch: `x = n ln 2 + r` with |r| <= ln 2 / 2, then a polynomial in r times `2^n`.
///
/// Precision relative error at most 2^-23; exp(0) is 1 exactly. Below -86.9 the result is 0 (the true value is under
///          1.9e-38, next to the smallest normal f32); above 88.7228 it is infinite; NaN stays NaN.
/// Source   Moshier, Cephes mathematical library, expf: the coefficients and the split of ln 2.
SLIPWAY_HD inline float exp(float x) {
  constexpr float kLog2E = 1.44269504f;
  constexpr float kLn2High = 0.693359375f;  // nine bits, so that n * kLn2High is exact
  constexpr float kLn2Low = -2.12194440e-4f;
  // 1.5 * 2^23: a float this large has no fraction, and its low bits are the integer.
  constexpr float kRounder = 12582912.0f;
  constexpr float kLowest = -86.9f, kHighest = 88.7228317f;

  const float shifted = fmadd(x, kLog2E, kRounder);
  const float n = shifted - kRounder;
  const float r = fmadd(n, -kLn2Low, fmadd(n, -kLn2High, x));

  float p = 1.9875691500e-4f;
  p = fmadd(p, r, 1.3981999507e-3f);
  p = fmadd(p, r, 8.3334519073e-3f);
  p = fmadd(p, r, 4.1665795894e-2f);
  p = fmadd(p, r, 1.6666665459e-1f);
  p = fmadd(p, r, 5.0000001201e-1f);
  p = fmadd(p * r, r, r) + 1.0f;

  // Half of 2^n, since 2^128 would be infinite: the low bits of `shifted` become the exponent.
  const float half_power = std::bit_cast<float>((std::bit_cast<std::uint32_t>(shifted) << 23) + (126u << 23));
  const float y = p * half_power * 2.0f;
  const float bounded = x > kHighest ? __builtin_inff() : y;
  return x < kLowest ? 0.0f : bounded;
}

/// `1 / (1 + e^-x)`.
SLIPWAY_HD inline float sigmoid(float x) { return 1.0f / (1.0f + exp(-x)); }

}  // namespace slipway::body
