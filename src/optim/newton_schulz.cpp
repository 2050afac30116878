#include "src/optim/newton_schulz.hpp"

#include <algorithm>
#include <cmath>

#include "src/core/allocation_tag.hpp"
#include "src/model/elements.hpp"

namespace slipway {
namespace {

constexpr int kSteps = 5;
constexpr double kMinSquares = 1e-60;  // a norm of 1e-30: the inverse of a smaller norm approaches the maximum of f32
// Jordan et al.: the steepest slope at 0 for which singular values stay within 0.7 .. 1.2.
constexpr float kA = 3.4445f, kB = -4.7750f, kC = 2.0315f;

std::span<float> span_of(Matrix<float> x) { return {x.data, static_cast<std::size_t>(x.size())}; }

}  // namespace

ConstTensorView NewtonSchulz::OperandCopy::make(Matrix<float> x, const Backend& backend, Stream& stream,
                                                DType compute_dtype) {
  const std::size_t size = elements(x.rows, x.cols);
  if (compute_dtype == DType::kBf16) {
    bf16_.reserve(size, *backend.memory);
    backend.to_bf16(stream, {x, bf16_.matrix(x.rows, x.cols)});
    return bf16_.matrix(x.rows, x.cols);
  }
  f32_.reserve(size, *backend.memory);
  backend.copy(stream, {x, f32_.matrix(x.rows, x.cols)});
  return f32_.matrix(x.rows, x.cols);
}

void NewtonSchulz::apply(Matrix<float> x_RC) {
  require(x_RC.contiguous(), "NewtonSchulz::apply: the matrix must be contiguous");
  const AllocationTag tag(MemoryKind::kOrthogonalization, "a matrix that Muon orthogonalizes");
  const std::span<float> x = span_of(x_RC);
  backend_.normalize(stream_, {x, kMinSquares});

  const bool tall = x_RC.rows > x_RC.cols;
  const int M = std::min(x_RC.rows, x_RC.cols);
  gram_.reserve(elements(M, M), *backend_.memory);
  const Matrix<float> gram_MM = gram_.matrix(M, M);
  const std::span<float> gram = span_of(gram_MM);
  for (int step = 0; step < kSteps; ++step) {
    const ConstTensorView X = x_copy_.make(x_RC, backend_, stream_, compute_dtype_);
    backend_.matmul(stream_, {.a = X, .b = X, .c = gram_MM, .transpose_a = tall, .transpose_b = !tall});
    const ConstTensorView G = gram_copy_.make(gram_MM, backend_, stream_, compute_dtype_);
    backend_.scale(stream_, {gram, kB / kC});  // c ((b / c) G + G G)
    backend_.matmul(stream_, {.a = G, .b = G, .c = gram_MM, .accumulate = true});
    backend_.scale(stream_, {gram, kC});
    const ConstTensorView P = gram_copy_.make(gram_MM, backend_, stream_, compute_dtype_);
    backend_.scale(stream_, {x, kA});
    backend_.matmul(stream_, {.a = tall ? X : P, .b = tall ? P : X, .c = x_RC, .accumulate = true});
  }
}

double orthogonal_flops(int rows, int cols) {
  const double M = std::min(rows, cols), N = std::max(rows, cols);
  return kSteps * (4 * M * M * N + 2 * M * M * M);
}

}  // namespace slipway
