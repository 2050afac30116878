// Matmuls `x W^T` with few rows in x, for decoding: bound by reading W. A warp multiplies one row of W with all rows of
// x, one after the other; after the first, the row of W comes from the cache.
#include "kernels/checks.hpp"
#include "kernels/cuda/ops.cuh"
#include "kernels/cuda/rows.cuh"

namespace slipway::cuda {
namespace {

template <class E>
struct FloatWeights {
  ConstTensorView w;
  explicit FloatWeights(const ConstTensorView& rows) : w(rows) {}
  template <class A, class T>
  __device__ float dot(const T& team, const A* a_K, int n) const {
    return team.sum(
        w.cols, [](float a, float weight) { return a * weight; }, a_K, w.row<E>(n));
  }
};
struct QuantizedWeights {
  QuantizedRows w;
  template <class A, class T>
  __device__ float dot(const T& team, const A* a_K, int n) const {
    const auto scaled = [=, this](int k, float a, std::int8_t weight) {
      return a * (static_cast<float>(weight) * w.scale(n, k));
    };
    return team.sum(w.cols, scaled, a_K, w.row(n));
  }
};

/// One column of c: row n of the weights times all rows of a.
template <class A, class C, class Weights>
struct SkinnyGemmColumn {
  ConstTensorView a;
  Weights w;
  TensorView c;
  Matrix<const float> residual;  // null: none
  template <class T>
  __device__ void operator()(const T& team, int n) const {
    for (int m = 0; m < a.rows; ++m) {
      const float total = w.dot(team, a.row<A>(m), n);
      C& out = c.row<C>(m)[n];
      if (team.team_rank() == 0) out = cast_to<C>(residual.data == nullptr ? total : residual.row(m)[n] + total);
    }
  }
};

template <class Weights>
void skinny_gemm(const Stream& stream, const ConstTensorView& a, const Weights& w, const TensorView& c,
                 Matrix<const float> residual) {
  dispatch_dtype(a.dtype, [&]<class A>(Type<A>) {
    dispatch_dtype(c.dtype, [&]<class C>(Type<C>) {
      for_each_row_by<Warp>("matmul", stream, c.cols, SkinnyGemmColumn<A, C, Weights>{a, w, c, residual});
    });
  });
}

struct DequantizeRow {
  Dequantize op;
  template <class T>
  __device__ void operator()(const T& team, int r) const {
    const QuantizedRows& w = op.w;
    const auto scaled = [=](int k, std::int8_t quantized, float& out) {
      out = static_cast<float>(quantized) * w.scale(r, k);
    };
    team.for_each(w.cols, scaled, w.row(r), write_only(op.out.row(r)));
  }
};

}  // namespace

void matmul(Stream& stream, const MatMul& op) {
  if (uses_library_gemm(op)) return matmul_cublaslt(stream, op);
  check(op);
  dispatch_dtype(op.b.dtype,
                 [&]<class E>(Type<E>) { skinny_gemm(stream, op.a, FloatWeights<E>(op.b), op.c, residual_of(op)); });
}

void matmul_quantized(Stream& stream, const MatMulQuantized& op) {
  check(op);
  if (!uses_library_gemm(op)) return skinny_gemm(stream, op.a, QuantizedWeights{op.w}, op.c, {});
  constexpr int kTileRows = kDequantizedRows;
  const int K = op.w.cols;
  const auto size = static_cast<std::size_t>(kTileRows) * static_cast<std::size_t>(K);
  float* w_f32 = cuda_stream_of(stream).scratch_for<float>(op);
  auto* w_bf16 = reinterpret_cast<Bf16*>(w_f32 + size);
  for (int first = 0; first < op.w.rows; first += kTileRows) {
    const int rows = min(kTileRows, op.w.rows - first);
    const Matrix<float> w_f32_NK{w_f32, rows, K, K};
    const Matrix<Bf16> w_bf16_NK{w_bf16, rows, K, K};
    dequantize(stream, {op.w.view_rows(first, rows), w_f32_NK});
    if (op.a.dtype == DType::kBf16) to_bf16(stream, {w_f32_NK, w_bf16_NK});
    matmul(stream, {.a = op.a,
                    .b = op.a.dtype == DType::kBf16 ? ConstTensorView(w_bf16_NK) : ConstTensorView(w_f32_NK),
                    .c = op.c.view_cols(first, rows),
                    .transpose_b = true,
                    .residual = {}});
  }
}

void dequantize(Stream& stream, const Dequantize& op) {
  check(op);
  for_each_row("dequantize", stream, op.w.rows, op.w.cols, DequantizeRow{op});
}

}  // namespace slipway::cuda
