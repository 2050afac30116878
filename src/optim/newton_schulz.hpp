// Newton-Schulz orthogonalization: approximates the nearest orthogonal matrix with matmuls.
#pragma once

#include "kernels/backend/backend.hpp"

namespace slipway {

/// Newton-Schulz iteration: brings every singular value of a matrix close to 1 without changing its singular vectors.
/// With M = min(rows, cols), X divided by its Frobenius norm, and G = X X^T (or X^T X, whichever is [M, M]), it applies
/// `X = a X + (b G + c G G) X` five times.
///
/// Precision X, G and all sums in f32; operands of the matmuls in `compute`. Singular values from 0.002 of the norm up
///          end between 0.68 and 1.21: the coefficients trade accuracy, which Muon can spare, for a steep slope at 0.
///          The bits depend on the matrix, its shape and the threads alone, so any rank may compute it.
/// Cost     operations as orthogonal_flops; memory beside the matrix, of the largest yet: M N elements of `compute`,
///          and M^2 in f32 and in `compute`.
/// Source   Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024, with its coefficients.
class NewtonSchulz {
 public:
  NewtonSchulz(const Backend& backend, DType compute_dtype) : backend_(backend), compute_dtype_(compute_dtype) {}

  /// `x` is contiguous and finite. A matrix whose norm is 0 or below 1e-30 is left unchanged.
  void apply(Matrix<float> x_RC);

 private:
  /// A copy of a matrix as an operand of matmuls: in the compute type, and separate from the matmul's output.
  class OperandCopy {
   public:
    ConstTensorView make(Matrix<float> x, const Backend& backend, Stream& stream, DType compute_dtype);

   private:
    Buffer<float> f32_;
    Buffer<Bf16> bf16_;
  };

  const Backend& backend_;
  DType compute_dtype_;
  Stream stream_ = backend_.main_stream();
  Buffer<float> gram_;  // G, then b G + c G G
  OperandCopy x_copy_, gram_copy_;
};

/// Operations of one apply(): 5 (4 M^2 N + 2 M^3), with M the lesser and N the greater of rows and columns.
double orthogonal_flops(int rows, int cols);

}  // namespace slipway
