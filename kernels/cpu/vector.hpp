// Vectors of f32 as wide as the target's registers, by the compiler's vector extensions.
#pragma once

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

inline Vector load(const float* from) {
  Vector v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}
inline Vector load_wide(const float* from) { return load(from); }
/// bf16 widened on the way. GCC 12 makes six instructions of __builtin_convertvector where the machine has one.
inline Vector load_wide(const Bf16* from) {
#if defined(__AVX512F__)
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  constexpr __mmask16 kAll = 0xffff;  // the forms without a mask warn in GCC 12's own header
  return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(kAll, _mm512_maskz_cvtepu16_epi32(kAll, halves), 16));
#elif defined(__AVX2__)
  const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
#else
  Vector wide;
  for (int lane = 0; lane < kLanes; ++lane) wide[lane] = to_f32(from[lane]);
  return wide;
#endif
}
inline void store(float* to, Vector v) { std::memcpy(to, &v, sizeof(v)); }
inline Vector broadcast(float value) {
  return value - Vector{};
}  // x - 0 is x, also for -0, so that only the copy remains

/// `a * b + c`, rounded once where the machine can. GCC 12 reads -ffp-contract=on as off, so this is spelled out.
inline Vector multiply_add(Vector a, Vector b, Vector c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__) && defined(__AVX2__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

}  // namespace slipway::cpu
