// Norms of the residual stream: RMSNorm or LayerNorm.
#pragma once

#include "src/model/layers/pass_context.hpp"

namespace slipway {

/// RMSNorm, or LayerNorm where there is a bias.
struct Norm {
  Parameters::Handle gain = -1;
  Parameters::Handle bias = -1;
  float eps = 0;
};

/// Computes the local rows of y from x. Shapes: x [U, D], y [R, D].
void normalize(const PassContext& pass, const Norm& norm, Matrix<const float> x_UD, const TensorView& y_RD);

/// Computes the local rows of dx, and of their bf16 copy if one is given, from x and the local rows of dy.
struct NormGrad {
  Matrix<const float> x_UD;
  Matrix<const float> dy_RD;
  Matrix<float> dx_RD;
  Matrix<Bf16> dx_bf16_RD;
  bool accumulate = false;
};
void normalize_grad(const PassContext& pass, const Norm& norm, const NormGrad& op);

/// Where the gradient of a vector is accumulated; scratch memory that is discarded where the vector is frozen or this
/// rank does not contribute to it.
float* vector_gradient(const PassContext& pass, Parameters::Handle parameter, bool contributes);
/// The same for a vector that applies to rows of the residual stream: the rank that has the rows contributes.
float* contributed_gradient(const PassContext& pass, Parameters::Handle parameter);
/// Reserves scratch memory of the functions above, for vectors of at most `width` elements.
void reserve_vector_gradients(Scratch& scratch, int width);

}  // namespace slipway
