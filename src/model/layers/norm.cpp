#include "src/model/layers/norm.hpp"

namespace slipway {
namespace {

constexpr std::string_view kDiscarded = "gradient of a vector that is discarded";

}  // namespace

float* vector_gradient(const PassContext& pass, Parameters::Handle parameter, bool contributes) {
  if (contributes && pass.parameters.at(parameter).trainable) return pass.parameters.gradient(parameter).data;
  return pass.scratch.matrix(kDiscarded, 1, pass.parameters.at(parameter).cols).as<float>().data;
}

float* contributed_gradient(const PassContext& pass, Parameters::Handle parameter) {
  return vector_gradient(pass, parameter, pass.rows.contributes());
}

void reserve_vector_gradients(Scratch& scratch, int width) {
  scratch.reserve(kDiscarded, DType::kF32, static_cast<std::size_t>(width));
}

void normalize(const PassContext& pass, const Norm& norm, Matrix<const float> x_UD, const TensorView& y_RD) {
  const float* gain = pass.parameters.value(norm.gain).data;
  for (const SequenceParallel::Part& part : pass.rows.parts()) {
    const Matrix<const float> x = part.local(x_UD);
    const TensorView y = part.local_in_global(y_RD);
    if (norm.bias < 0) pass.backend.rms_norm(pass.stream, {x, gain, y, norm.eps});
    else pass.backend.layer_norm(pass.stream, {x, gain, pass.parameters.value(norm.bias).data, y, norm.eps});
  }
}

void normalize_grad(const PassContext& pass, const Norm& norm, const NormGrad& op) {
  const float* gain = pass.parameters.value(norm.gain).data;
  float* const dgain = contributed_gradient(pass, norm.gain);
  for (const SequenceParallel::Part& part : pass.rows.parts()) {
    const Matrix<const float> x = part.local(op.x_UD), dy = part.local_in_global(op.dy_RD);
    const Matrix<float> dx = part.local_in_global(op.dx_RD);
    const Matrix<Bf16> dx_bf16 = part.local_in_global(op.dx_bf16_RD);
    if (norm.bias < 0)
      pass.backend.rms_norm_grad(pass.stream, {.x_RD = x,
                                               .gain_D = gain,
                                               .dy_RD = dy,
                                               .dx_RD = dx,
                                               .dgain_D = dgain,
                                               .eps = norm.eps,
                                               .accumulate_dx = op.accumulate,
                                               .dx_bf16_RD = dx_bf16});
    else
      pass.backend.layer_norm_grad(pass.stream, {.x_RD = x,
                                                 .gain_D = gain,
                                                 .dy_RD = dy,
                                                 .dx_RD = dx,
                                                 .dgain_D = dgain,
                                                 .dbias_D = contributed_gradient(pass, norm.bias),
                                                 .eps = norm.eps,
                                                 .accumulate_dx = op.accumulate,
                                                 .dx_bf16_RD = dx_bf16});
  }
}

}  // namespace slipway
