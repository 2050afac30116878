// Vectors of f32 as wide as the target's registers, by the compiler's vector extensions.
#pragma once

#include <cstring>

#if defined(__FMA__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

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
inline void store(float* to, Vector v) { std::memcpy(to, &v, sizeof(v)); }
inline Vector broadcast(float value) { return value - Vector{}; }  // x - 0 is x, also for -0, so that only the copy remains

/// `a * b + c`, rounded once where the machine can. GCC 12 reads -ffp-contract=on as off, so this is spelled out.
inline Vector multiply_add(Vector a, Vector b, Vector c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__) && defined(__AVX__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

}  // namespace slipway::cpu
