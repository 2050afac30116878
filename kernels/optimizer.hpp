// Optimizer ops over ranges of the flat parameter arena.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/backend/stream.hpp"
#include "src/core/dtype.hpp"

namespace slipway {

/// One AdamW step over a range of parameters, in one pass over memory:
/// `m = b1 m + (1-b1) g', v = b2 v + (1-b2) g'^2, w -= lr (m / c1 / (sqrt(v / c2) + eps) + weight_decay w)` with g' = g
/// * *grad_scale. Nothing is updated when *grad_scale is NaN.
///
/// Shapes   all spans that are not empty have the same length.
/// Precision f32; c1 = 1 - b1^t, c2 = 1 - b2^t are given in f32 by the caller, who computes them in f64.
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
  float weight_decay = 0;
  float bias_correction1 = 1;         ///< c1
  float bias_correction2 = 1;         ///< c2
  const float* grad_scale = nullptr;  ///< the factor of gradient clipping, in the backend's memory; null: 1
  std::span<Bf16> w_bf16;             ///< the new w, rounded; empty: not written
};

/// Muon's momentum; the gradient is replaced by Nesterov's look-ahead: `m = momentum (m + g'), g = g' + m` with
/// g' = g * *grad_scale. Nothing is updated when *grad_scale is NaN.
struct MuonMomentum {
  std::span<float> g;
  std::span<float> m;
  float momentum = 0.95f;
  const float* grad_scale = nullptr;  ///< as AdamW's
};

/// `w = decay_factor w - rate direction`. Nothing is updated when *grad_scale is NaN.
struct MuonUpdate {
  std::span<float> w;
  std::span<const float> direction;
  float decay_factor = 1;  ///< weight decay multiplies w by it
  float rate = 0;
  const float* grad_scale = nullptr;  ///< as AdamW's
  std::span<Bf16> w_bf16;             ///< as AdamW's
};

/// The factor of gradient clipping: 1, or max_norm over the gradient's norm. NaN skips the step: `*factor` becomes NaN,
/// and stays NaN in later steps, once a value was not finite.
///
/// Shapes   losses: losses of the micro-batches, checked for NaN and infinity only; squares [tensor_parallel_size,
///          data_parallel_size, slots, 2]: sums of squares of each slot's chunk of the gradient, 0 except on the
///          chunk's owner; first of parameters replicated over tensor ranks (tensor rank 0 counts), then of sharded
/// parameters.
/// Precision in f64; the order depends on tensor_parallel_size and slots alone.
struct ClipCoef {
  std::span<const double> losses;
  const double* squares = nullptr;
  int tensor_parallel_size = 1;
  int data_parallel_size = 1;
  int slots = 1;
  double max_norm = 0;               ///< 0: no clipping
  double* norm = nullptr;            ///< out: L2, before clipping
  float* factor = nullptr;           ///< in: NaN when an earlier step was skipped; out: the factor
  float* reported_factor = nullptr;  ///< out: the factor again, for the step's report
};

/// `x = x / |x|`, with the L2 norm; x is unchanged when the sum of its squares is below `min_squares`.
struct Normalize {
  std::span<float> x;
  double min_squares = 0;
};

/// Sum of squares in f64: blocks of 4096 elements, each in a fixed order, block sums added in order, whatever the
/// number of threads.
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
