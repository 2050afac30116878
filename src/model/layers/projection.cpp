#include "src/model/layers/projection.hpp"

#include "src/model/elements.hpp"

namespace slipway {
namespace {

constexpr std::string_view kPartialSums = "this rank's sums before they are reduced";

}  // namespace

Matrix<float> partial_sums(const PassContext& pass, int width) {
  return pass.scratch.matrix(kPartialSums, pass.rows.global_rows(), width).as<float>();
}

void reserve_projections(Scratch& scratch, int rows, int width, int tensor_parallel_size, bool training) {
  if (training || tensor_parallel_size > 1) scratch.reserve(kPartialSums, DType::kF32, elements(rows, width));
}

void project(const PassContext& pass, Linears layers, const NormedRows& input, const TensorView& y_RO) {
  pass.rows.overlap_all_gather(input.normed_RD, [&](const SequenceParallel::Part& part) {
    pass.linear.forward(part.global(input.normed_RD), layers, part.global(y_RO));
  });
}

Matrix<float> project_grad(const PassContext& pass, Linears layers, const ConstTensorView& dy_RO,
                           const NormedRows& input) {
  const Matrix<float> dnormed = partial_sums(pass, input.normed_RD.cols);
  pass.linear.bias_gradient(dy_RO, layers);
  if (!input.saved) normalize(pass, input.norm, input.x_UD, input.normed_RD);
  pass.rows.overlap(
      [&] {
        if (!input.saved) pass.rows.all_gather(input.normed_RD);
      },
      [&] { pass.linear.input_gradient(dy_RO, layers, dnormed); });
  pass.rows.overlap([&] { pass.rows.reduce_scatter(dnormed); },
                    [&] { pass.linear.weight_gradient(dy_RO, input.normed_RD, layers); });
  return dnormed;
}

void project_to_residual(const PassContext& pass, Linear layer, const ConstTensorView& x_RI, const Residual& residual) {
  const Matrix<float> y = residual.y_UD;
  const Linear unbiased{.weight = layer.weight, .lora = layer.lora};
  if (pass.tensor.size() == 1) {
    pass.linear.forward_residual(x_RI, layer, residual.x_UD, y);
  } else {
    const Matrix<float> sums_RD = pass.rows.is_sharded() ? partial_sums(pass, y.cols) : y;
    pass.rows.overlap_reduce_scatter(sums_RD, [&](const SequenceParallel::Part& part) {
      pass.linear.forward(part.global(x_RI), {unbiased}, part.global(sums_RD));
    });
    for (const SequenceParallel::Part& part : pass.rows.parts())
      pass.backend.add(pass.stream, {.x = span_of(part.local(residual.x_UD)),
                                     .y = span_of(part.local_in_global(sums_RD)),
                                     .sum = span_of(part.local(y))});
  }
  if (layer.bias >= 0) pass.backend.add_bias(pass.stream, {pass.parameters.value(layer.bias).data, y});
}

void project_to_residual_input_grad(const PassContext& pass, Linear layer, const TensorView& dy_RD,
                                    const TensorView& dx_RI) {
  pass.rows.overlap_all_gather(dy_RD, [&](const SequenceParallel::Part& part) {
    pass.linear.input_gradient(part.global(dy_RD), {layer}, part.global(dx_RI));
  });
}

void project_to_residual_weight_grad(const PassContext& pass, Linear layer, const TensorView& dy_RD,
                                     Matrix<const float> dy_f32_RD, const ConstTensorView& x_RI) {
  pass.linear.weight_gradient(dy_RD, x_RI, {layer});
  if (layer.bias < 0) return;
  float* const dbias = contributed_gradient(pass, layer.bias);
  for (const SequenceParallel::Part& part : pass.rows.parts())
    pass.backend.bias_grad(pass.stream, {part.local_in_global(dy_f32_RD), dbias});
}

}  // namespace slipway
