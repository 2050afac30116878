// Vectors of f32 and of pairs of bf16, as wide as the target's registers, by the compiler's vector extensions.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "src/core/dtype.hpp"

namespace slipway::cpu {

#if defined(__AVX512F__)
inline constexpr int kLanes = 16;
#elif defined(__AVX__)
inline constexpr int kLanes = 8;
#else
inline constexpr int kLanes = 4;
#endif

using Vector = float __attribute__((vector_size(kLanes * sizeof(float))));
/// Two bf16 in every lane, the first one in its lower half.
using Bf16Pairs = std::uint32_t __attribute__((vector_size(kLanes * sizeof(std::uint32_t))));

template <class V = Vector, class T>
inline V load_as(const T* from) {
  V v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}
inline Vector load(const float* from) { return load_as<Vector>(from); }
inline Bf16Pairs load(const Bf16* from) { return load_as<Bf16Pairs>(from); }
inline Vector load_as_float(const float* from) { return load(from); }
/// bf16, converted to f32. GCC 12 compiles __builtin_convertvector to six instructions where the machine has one.
inline Vector load_as_float(const Bf16* from) {
#if defined(__AVX512F__)
  const __m256i bf16_bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  constexpr __mmask16 kAllLanes = 0xffff;  // the forms without a mask warn in GCC 12's own header
  return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(kAllLanes, _mm512_maskz_cvtepu16_epi32(kAllLanes, bf16_bits), 16));
#elif defined(__AVX2__)
  const __m128i bf16_bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bf16_bits), 16));
#else
  Vector result;
  for (int lane = 0; lane < kLanes; ++lane) result[lane] = to_f32(from[lane]);
  return result;
#endif
}
/// Signed bytes as f32.
inline Vector load_as_float(const std::int8_t* from) {
#if defined(__AVX512F__)
  constexpr __mmask16 kAllLanes = 0xffff;
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return _mm512_maskz_cvtepi32_ps(kAllLanes, _mm512_maskz_cvtepi8_epi32(kAllLanes, bytes));
#elif defined(__AVX2__)
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
#else
  Vector result;
  for (int lane = 0; lane < kLanes; ++lane) result[lane] = static_cast<float>(from[lane]);
  return result;
#endif
}
/// Sums in halves: adds lane i + half to lane i until one lane is left.
inline float reduce_add(Vector v) {
  float lanes[kLanes];
  std::memcpy(lanes, &v, sizeof(lanes));
#pragma GCC unroll 4
  for (int half = kLanes / 2; half > 0; half /= 2)
#pragma GCC unroll 8
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  return lanes[0];
}
template <class V>
inline void store(void* to, V v) {
  std::memcpy(to, &v, sizeof(v));
}
/// x - 0 is x, also for -0, so that the compiler emits only the broadcast.
inline Vector broadcast(float value) { return value - Vector{}; }
inline Bf16Pairs broadcast(const Bf16* pair) {
  std::uint32_t bits;
  std::memcpy(&bits, pair, sizeof(bits));
  return bits - Bf16Pairs{};
}

/// `a * b + c`, with one rounding where the machine has FMA. Explicit, since GCC 12 treats -ffp-contract=on as off.
inline Vector fmadd(Vector a, Vector b, Vector c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__) && defined(__AVX2__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

/// `a[0] * b[0] + a[1] * b[1] + c` in every lane, in f32: one instruction with AVX512_BF16.
inline Vector fmadd(Bf16Pairs a, Bf16Pairs b, Vector c) {
#if defined(__AVX512BF16__)
  return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
#else
  const auto low = [](Bf16Pairs p) { return (Vector)(p << 16); };
  const auto high = [](Bf16Pairs p) { return (Vector)(p & 0xffff0000u); };
  return fmadd(low(a), low(b), fmadd(high(a), high(b), c));
#endif
}

/// Every lane rounded to bf16, whose bits are in the lane's lower half; NaN stays NaN.
inline Bf16Pairs convert_to_bf16(Vector v) {
#if defined(__AVX512BF16__)
  constexpr __mmask16 kAllLanes = 0xffff;
  return (Bf16Pairs)_mm512_maskz_cvtepu16_epi32(kAllLanes, (__m256i)_mm512_cvtneps_pbh(v));
#else
  const Bf16Pairs bits = (Bf16Pairs)v;
  const Bf16Pairs rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return (bits & 0x7fffffffu) > 0x7f800000u ? (bits >> 16) | 0x40u : rounded;
#endif
}
/// Stores the lanes as kLanes adjacent bf16.
inline void store_as_bf16(Bf16* to, Vector v) {
#if defined(__AVX512BF16__)
  store(to, _mm512_cvtneps_pbh(v));
#else
  const Bf16Pairs lanes = convert_to_bf16(v);
  for (int lane = 0; lane < kLanes; ++lane) to[lane].bits = static_cast<std::uint16_t>(lanes[lane]);
#endif
}
inline Bf16Pairs interleave_bf16(const Bf16* first, const Bf16* second) {
  return ((Bf16Pairs)load_as_float(first) >> 16) | (Bf16Pairs)load_as_float(second);
}
inline Bf16Pairs interleave_bf16(Vector first, Vector second) {
  return convert_to_bf16(first) | (convert_to_bf16(second) << 16);
}

}  // namespace slipway::cpu
