// Matmuls `x W^T` with few rows in x, for decoding. They are bound by reading W, so W is read once, as it is stored
// (bf16 and q8_0 become f32 in registers), and each element is a dot product whose order of summation depends on K
// alone: a sequence decoded in a batch gives the same bits as alone.
#include <algorithm>

#include "kernels/checks.hpp"
#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/parallel.hpp"
#include "kernels/cpu/vector.hpp"

namespace slipway::cpu {
namespace {

/// Most rows of x handled here; above, the general matmuls, which first copy W, are as fast.
constexpr int kMaxRows = 8;

/// W as it is stored, read as f32: a vector from weight k of row n on, or that weight alone.
template <class T>
struct FloatWeights {
  const T* first;
  std::int64_t stride;

  explicit FloatWeights(const ConstTensorView& w) : first(static_cast<const T*>(w.data)), stride(w.stride) {}
  Vector vector(std::int64_t n, int k) const { return load_as_float(first + n * stride + k); }
  float scalar(std::int64_t n, int k) const { return to_f32(first[n * stride + k]); }
};
struct QuantizedWeights {
  QuantizedRows w;

  Vector vector(std::int64_t n, int k) const { return load_as_float(w.row(n) + k) * w.scale(n, k); }
  float scalar(std::int64_t n, int k) const { return static_cast<float>(w.row(n)[k]) * w.scale(n, k); }
};

/// Independent partial sums of one element, which hide the latency of the additions.
constexpr int kAccumulators = 2;

/// `c[i, n] (+)= x[i] . w[n]` for kRows rows of x.
template <int kRows, class X, class W>
void microkernel(const ConstTensorView& x, int first, const W& w, std::int64_t n, const TensorView& c,
                 bool accumulate) {
  const int K = x.cols;
  const X* x_i[kRows];
  for (int i = 0; i < kRows; ++i) x_i[i] = x.row<X>(first + i);
  Vector sum[kRows][kAccumulators] = {};
  const auto add = [&](int k, int accumulator) {
    const Vector w_k = w.vector(n, k);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) sum[i][accumulator] = fmadd(load_as_float(x_i[i] + k), w_k, sum[i][accumulator]);
  };
  int k = 0;
  for (; k + kAccumulators * kLanes <= K; k += kAccumulators * kLanes) {
#pragma GCC unroll 2
    for (int accumulator = 0; accumulator < kAccumulators; ++accumulator) add(k + accumulator * kLanes, accumulator);
  }
  for (; k + kLanes <= K; k += kLanes) add(k, 0);
  for (int i = 0; i < kRows; ++i) {
    float total = reduce_add(sum[i][0] + sum[i][1]);
    for (int tail = k; tail < K; ++tail) total += to_f32(x_i[i][tail]) * w.scalar(n, tail);
    if (c.dtype == DType::kBf16) {
      c.row<Bf16>(first + i)[n] = slipway::to_bf16(total);
    } else {
      float& element = c.row<float>(first + i)[n];
      element = accumulate ? element + total : total;
    }
  }
}

/// The same for the rows of x from `first` on, kRows at a time, then half as many: each weight is converted to f32 once
/// for kRows rows.
template <int kRows, class X, class W>
void microkernel_rows(const ConstTensorView& x, int first, const W& w, std::int64_t n, const TensorView& c,
                      bool accumulate) {
  for (; first + kRows <= x.rows; first += kRows) microkernel<kRows, X>(x, first, w, n, c, accumulate);
  if constexpr (kRows > 1) microkernel_rows<kRows / 2, X>(x, first, w, n, c, accumulate);
}

/// One row of W after the other, since the CPU prefetches one stream better than several: on a Zen 4 core 31 GB/s of
/// f32 against 16 with four rows at a time. All rows of x use a row of W while it is cached.
template <class X, class W>
void skinny_gemm(const Stream& stream, const ConstTensorView& x, const W& w, const TensorView& c, bool accumulate) {
  constexpr std::size_t kBlockColumns = 32;
  constexpr int kMaxTileRows =
      kLanes == 16 ? 8 : 4;  // kMaxTileRows * kAccumulators sums and their operands fit the registers
  for_each_block(stream, static_cast<std::size_t>(c.cols), kBlockColumns, x.size(),
                 [&](std::int64_t, std::size_t first, int count) {
                   for (auto n = static_cast<std::int64_t>(first); n < static_cast<std::int64_t>(first) + count; ++n) {
                     microkernel_rows<kMaxTileRows, X>(x, 0, w, n, c, accumulate);
                   }
                 });
}

}  // namespace

/// Runs the matmul first, then adds the residual in a second pass over c.
void matmul_then_add(Stream& stream, const MatMul& op) {
  check(op);
  MatMul without_residual = op;
  without_residual.residual = {};
  matmul(stream, without_residual);
  for_each_row(stream, op.c.rows, op.c.cols, [&](int r) {
    SerialTeam{}.for_each(
        op.c.cols, [](float residual, float& c) { c += residual; }, op.residual.row(r), op.c.row<float>(r));
  });
}

void matmul(Stream& stream, const MatMul& op) {
  if (op.residual.data != nullptr) return matmul_then_add(stream, op);
  if (op.transpose_a || !op.transpose_b || op.a.rows > kMaxRows || op.a.cols == 0) return matmul_general(stream, op);
  check(op);
  dispatch_dtype(op.a.dtype,
                 [&]<class T>(Type<T>) { skinny_gemm<T>(stream, op.a, FloatWeights<T>(op.b), op.c, op.accumulate); });
}

void matmul_quantized(Stream& stream, const MatMulQuantized& op) {
  check(op);
  if (op.a.rows <= kMaxRows)
    return dispatch_dtype(op.a.dtype, [&]<class T>(Type<T>) {
      skinny_gemm<T>(stream, op.a, QuantizedWeights{op.w}, op.c, /*accumulate=*/false);
    });
  constexpr int kDequantizedRows = 512;  // rows of W that are dequantized to f32 (or bf16) at once
  static thread_local Buffer<float> w_f32;
  static thread_local Buffer<Bf16> w_bf16;
  const int K = op.w.cols;
  for (int first = 0; first < op.w.rows; first += kDequantizedRows) {
    const int rows = std::min(kDequantizedRows, op.w.rows - first);
    const auto size = static_cast<std::size_t>(rows) * static_cast<std::size_t>(K);
    w_f32.reserve(size);
    dequantize(stream, {op.w.view_rows(first, rows), w_f32.matrix(rows, K)});
    ConstTensorView w = w_f32.matrix(rows, K);
    if (op.a.dtype == DType::kBf16) {
      w_bf16.reserve(size);
      to_bf16(stream, {w_f32.matrix(rows, K), w_bf16.matrix(rows, K)});
      w = w_bf16.matrix(rows, K);
    }
    matmul_general(stream, {.a = op.a, .b = w, .c = op.c.view_cols(first, rows), .transpose_b = true});
  }
}

void dequantize(Stream& stream, const Dequantize& op) {
  check(op);
  for_each_row(stream, op.w.rows, op.w.cols, [&](int r) {
    const std::int8_t* from = op.w.row(r);
    float* to = op.out.row(r);
    for (int k = 0; k < op.w.cols; k += QuantizedRows::kBlock) {
      const float scale = op.w.scale(r, k);
      SerialTeam{}.for_each(QuantizedRows::kBlock, [=](int i) { to[k + i] = scale * static_cast<float>(from[k + i]); });
    }
  });
}

}  // namespace slipway::cpu
