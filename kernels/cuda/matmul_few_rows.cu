// Products of a few rows with weights, as decoding has them: bound by reading the weights, which is done once. A warp
// has one row of weights and all rows of the left operand.
#include "kernels/checks.hpp"
#include "kernels/cuda/ops.cuh"
#include "kernels/cuda/rows.cuh"

namespace slipway::cuda {
namespace {

constexpr int kFew = 8;

template <class E>
struct StoredRows {
  const E* data;
  std::int64_t stride;
  explicit StoredRows(const Operand& w) : data(static_cast<const E*>(w.data)), stride(w.stride) {}
  __device__ float at(int n, int k) const { return to_f32(data[n * stride + k]); }
};
struct StoredBlocks {
  QuantizedRows w;
  __device__ float at(int n, int k) const { return static_cast<float>(w.row(n)[k]) * w.scale(n, k); }
};

/// One column of c: the products of weights row n with the rows of a.
template <class A, class C, class Weights>
struct FewRowsColumn {
  Operand a;
  Weights w;
  Activation c;
  bool accumulate;
  template <class T>
  __device__ void operator()(const T& team, int n) const {
    float sum[kFew] = {};
    for (int k = team.lane(); k < a.cols; k += T::kLanes) {
      const float weight = w.at(n, k);
#pragma unroll
      for (int m = 0; m < kFew; ++m)
        if (m < a.rows) sum[m] += to_f32(a.row<A>(m)[k]) * weight;
    }
#pragma unroll
    for (int m = 0; m < kFew; ++m) {
      if (m >= a.rows) break;
      const float total = team.joined(sum[m], Plus{});
      C& out = c.row<C>(m)[n];
      if (team.lane() == 0) out = narrowed<C>(accumulate ? to_f32(out) + total : total);
    }
  }
};

template <class Weights>
void few_rows(const Stream& stream, const Operand& a, const Weights& w, const Activation& c, bool accumulate) {
  by_type(a.dtype, [&]<class A>(Type<A>) {
    by_type(c.dtype, [&]<class C>(Type<C>) {
      each_row_by_warps("matmul", stream, c.cols, FewRowsColumn<A, C, Weights>{a, w, c, accumulate});
    });
  });
}

struct DequantizeRow {
  Dequantize op;
  template <class T>
  __device__ void operator()(const T& team, int r) const {
    const StoredBlocks w{op.w};
    float* out = op.out.row(r);
    team.each(op.w.cols, [=](int k) { out[k] = w.at(r, k); });
  }
};

}  // namespace

void matmul(Stream& stream, const MatMul& op) {
  if (op.transpose_a || !op.transpose_b || op.a.rows > kFew || op.a.rows == 0) return matmul_cublaslt(stream, op);
  check(op);
  by_type(op.b.dtype, [&]<class E>(Type<E>) { few_rows(stream, op.a, StoredRows<E>(op.b), op.c, op.accumulate); });
}

void matmul_quantized(Stream& stream, const MatMulQuantized& op) {
  check(op);
  if (op.a.rows <= kFew) return few_rows(stream, op.a, StoredBlocks{op.w}, op.c, /*accumulate=*/false);
  constexpr int kTile = 512;  // rows of W that are f32 (or bf16) at once
  const int K = op.w.cols;
  const auto size = static_cast<std::size_t>(kTile) * static_cast<std::size_t>(K);
  float* wide = queue_of(stream).scratch_of<float>(2 * size);
  auto* narrow = reinterpret_cast<Bf16*>(wide + size);
  for (int first = 0; first < op.w.rows; first += kTile) {
    const int rows = min(kTile, op.w.rows - first);
    const Matrix<float> wide_NK{wide, rows, K, K};
    const Matrix<Bf16> narrow_NK{narrow, rows, K, K};
    dequantize(stream, {op.w.view_rows(first, rows), wide_NK});
    if (op.a.dtype == DType::kBf16) to_bf16(stream, {wide_NK, narrow_NK});
    matmul(stream, {.a = op.a,
                    .b = op.a.dtype == DType::kBf16 ? Operand(narrow_NK) : Operand(wide_NK),
                    .c = op.c.view_cols(first, rows),
                    .transpose_b = true});
  }
}

void dequantize(Stream& stream, const Dequantize& op) {
  check(op);
  each_row("dequantize", stream, op.w.rows, op.w.cols, DequantizeRow{op});
}

}  // namespace slipway::cuda
