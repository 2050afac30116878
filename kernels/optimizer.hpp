// What the optimizer does to ranges of the flat parameter arena.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/stream.hpp"
#include "src/core/dtype.hpp"

namespace slipway {

/// One AdamW step over a range of parameters, in one pass over memory:
/// `m = b1 m + (1-b1) g', v = b2 v + (1-b2) g'^2, w -= lr (m / c1 / (sqrt(v / c2) + eps) + decay w)` with g' = g *
/// grad_scale.
///
/// Shapes   all spans that are given have one length.
/// Numbers  f32; c1 = 1 - b1^t, c2 = 1 - b2^t are given in f32 by the caller, who computes them in f64.
/// Source   Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2.
struct AdamW {
  std::span<float> w;
  std::span<const float> g;
  std::span<float> m;
  std::span<float> v;
  float lr = 0;
  float beta1 = 0.9f;
  float beta2 = 0.95f;
  float eps = 1e-8f;
  float decay = 0;
  float correction1 = 1;   ///< c1
  float correction2 = 1;   ///< c2
  float grad_scale = 1;    ///< what clipping multiplies gradients by
  std::span<Bf16> w_bf16;  ///< the new w, rounded; without memory: not wanted
};

/// Sum of squares in f64: blocks of 4096 elements, each in a fixed order, block sums added in order, whatever the
/// threads.
struct SumSquares {
  std::span<const float> x;
  double* result = nullptr;
};

/// Position of the first element that is NaN or infinite, or -1.
struct FirstNonFinite {
  std::span<const float> x;
  std::int64_t* result = nullptr;
};

}  // namespace slipway
