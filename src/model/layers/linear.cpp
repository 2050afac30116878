#include "src/model/layers/linear.hpp"

#include <algorithm>

#include "src/model/elements.hpp"

namespace slipway {
namespace {

// Scratch memory.
constexpr std::string_view kIntermediate = "low-rank intermediate", kIntermediateBf16 = "low-rank intermediate in bf16",
                           kSums = "f32 sums with LoRA";

bool has_lora(Linears layers) {
  return std::ranges::any_of(layers, [](const Linear& layer) { return layer.lora.rank > 0; });
}

/// Calls `fn(slice, its first column of y)` for each group of layers whose weights are adjacent in the arena. Such a
/// group is one matrix: a slice that begins in the group's first weight and extends into the others.
template <class Fn>
void for_each_fused(const Parameters& parameters, Linears layers, const Fn& fn) {
  int column = 0;
  for (const Linear* first = layers.begin(); first != layers.end();) {
    int rows = parameters.at(first->weight).local_rows;
    const Linear* next = first + 1;
    for (; next != layers.end() && parameters.adjacent(next[-1].weight, next->weight); ++next)
      rows += parameters.at(next->weight).local_rows;
    fn(WeightSlice{first->weight, 0, rows}, column);
    column += rows;
    first = next;
  }
}

/// Calls `fn(layer, its first column of y, its columns)` for each layer.
template <class Fn>
void for_each_layer(const Parameters& parameters, Linears layers, const Fn& fn) {
  int column = 0;
  for (const Linear& layer : layers) {
    const int outputs = parameters.at(layer.weight).local_rows;
    fn(layer, column, outputs);
    column += outputs;
  }
}

}  // namespace

void reserve_lora(Scratch& scratch, DType compute_dtype, int rows, Linears layers, int width) {
  int rank = 0;
  for (const Linear& layer : layers) rank = std::max(rank, layer.lora.rank);
  if (rank == 0) return;
  scratch.reserve(kIntermediate, DType::kF32, elements(rows, rank));
  if (compute_dtype == DType::kF32) return;
  scratch.reserve(kIntermediateBf16, compute_dtype, elements(rows, rank));
  scratch.reserve(kSums, DType::kF32, elements(rows, width));
}

/// `scale * rows factor`, or its product with the factor's transpose, in the compute type. Shapes: [R, rank].
ConstTensorView LinearOps::lora_projection(const ConstTensorView& rows, const LoraWeights& lora,
                                           Parameters::Handle factor, bool transpose) const {
  const Matrix<float> result = scratch_.matrix(kIntermediate, rows.rows, lora.rank).as<float>();
  backend_.matmul(stream_, {.a = rows, .b = parameters_.weight(factor), .c = result, .transpose_b = transpose});
  backend_.scale(stream_, {span_of(result), lora.scale});
  if (parameters_.compute_dtype() == DType::kF32) return result;
  const Matrix<Bf16> rounded = scratch_.matrix(kIntermediateBf16, rows.rows, lora.rank).as<Bf16>();
  backend_.to_bf16(stream_, {result, rounded});
  return rounded;
}

/// `y += scale * (x A^T) B^T`; y is f32.
void LinearOps::add_lora(const ConstTensorView& x_RI, const LoraWeights& lora, const TensorView& y_RO) const {
  if (lora.rank == 0) return;
  const ConstTensorView xa_RK = lora_projection(x_RI, lora, lora.a, /*transpose=*/true);
  backend_.matmul(stream_,
                  {.a = xa_RK, .b = parameters_.weight(lora.b), .c = y_RO, .transpose_b = true, .accumulate = true});
}

/// `dB += dy^T (scale * x A^T)` and `dA += (scale * dy B)^T x`.
void LinearOps::lora_gradient(const ConstTensorView& dy_RO, const ConstTensorView& x_RI,
                              const LoraWeights& lora) const {
  if (lora.rank == 0) return;
  const auto add_matmul = [&](const ConstTensorView& a, const ConstTensorView& b, Parameters::Handle parameter) {
    backend_.matmul(stream_,
                    {.a = a, .b = b, .c = parameters_.gradient(parameter), .transpose_a = true, .accumulate = true});
  };
  if (parameters_.at(lora.b).trainable)
    add_matmul(dy_RO, lora_projection(x_RI, lora, lora.a, /*transpose=*/true), lora.b);
  if (parameters_.at(lora.a).trainable)
    add_matmul(lora_projection(dy_RO, lora, lora.b, /*transpose=*/false), x_RI, lora.a);
}

void LinearOps::forward(const ConstTensorView& x_RI, WeightSlice slice, const TensorView& y_RO) const {
  if (parameters_.at(slice.weight).quantized) {
    const QuantizedRows w_OI = parameters_.quantized(slice.weight, slice.first, slice.rows);
    return backend_.matmul_quantized(stream_, {.a = x_RI, .w = w_OI, .c = y_RO});
  }
  const ConstTensorView w_OI = parameters_.weight(slice.weight, slice.first, slice.rows);
  backend_.matmul(stream_, {.a = x_RI, .b = w_OI, .c = y_RO, .transpose_b = true});
}

void LinearOps::input_gradient(const ConstTensorView& dy_RO, WeightSlice slice, const TensorView& dx_RI,
                               bool accumulate) const {
  const ConstTensorView w_OI = parameters_.weight(slice.weight, slice.first, slice.rows);
  backend_.matmul(stream_, {.a = dy_RO, .b = w_OI, .c = dx_RI, .accumulate = accumulate});
}

void LinearOps::weight_gradient(const ConstTensorView& dy_RO, const ConstTensorView& x_RI, WeightSlice slice) const {
  if (!parameters_.at(slice.weight).trainable) return;
  const Matrix<float> dw_OI = parameters_.gradient(slice.weight, slice.first, slice.rows);
  backend_.matmul(stream_, {.a = dy_RO, .b = x_RI, .c = dw_OI, .transpose_a = true, .accumulate = true});
}

void LinearOps::forward(const ConstTensorView& x_RI, Linears layers, const TensorView& y_RO) const {
  const bool round_output = has_lora(layers) && y_RO.dtype != DType::kF32;
  const TensorView sums_RO = round_output ? scratch_.matrix(kSums, y_RO.rows, y_RO.cols) : y_RO;
  for_each_fused(parameters_, layers,
                 [&](WeightSlice slice, int column) { forward(x_RI, slice, sums_RO.view_cols(column, slice.rows)); });
  for_each_layer(parameters_, layers, [&](const Linear& layer, int column, int outputs) {
    add_lora(x_RI, layer.lora, sums_RO.view_cols(column, outputs));
    if (layer.bias >= 0)
      backend_.add_bias(stream_, {parameters_.value(layer.bias).data, sums_RO.view_cols(column, outputs)});
  });
  if (round_output) backend_.to_bf16(stream_, {sums_RO.as<float>(), y_RO.as<Bf16>()});
}

void LinearOps::input_gradient(const ConstTensorView& dy_RO, Linears layers, const TensorView& dx_RI) const {
  const bool round_output = has_lora(layers) && dx_RI.dtype != DType::kF32;
  const TensorView sums_RI = round_output ? scratch_.matrix(kSums, dx_RI.rows, dx_RI.cols) : dx_RI;
  for_each_fused(parameters_, layers, [&](WeightSlice slice, int column) {
    input_gradient(dy_RO.view_cols(column, slice.rows), slice, sums_RI, /*accumulate=*/column > 0);
  });
  for_each_layer(parameters_, layers, [&](const Linear& layer, int column, int outputs) {
    const LoraWeights& lora = layer.lora;
    if (lora.rank == 0) return;
    const ConstTensorView dyb_RK = lora_projection(dy_RO.view_cols(column, outputs), lora, lora.b, /*transpose=*/false);
    backend_.matmul(stream_, {.a = dyb_RK, .b = parameters_.weight(lora.a), .c = sums_RI, .accumulate = true});
  });
  if (round_output) backend_.to_bf16(stream_, {sums_RI.as<float>(), dx_RI.as<Bf16>()});
}

void LinearOps::weight_gradient(const ConstTensorView& dy_RO, const ConstTensorView& x_RI, Linears layers) const {
  for_each_fused(parameters_, layers, [&](WeightSlice slice, int column) {
    weight_gradient(dy_RO.view_cols(column, slice.rows), x_RI, slice);
  });
  for_each_layer(parameters_, layers, [&](const Linear& layer, int column, int outputs) {
    lora_gradient(dy_RO.view_cols(column, outputs), x_RI, layer.lora);
  });
}

void LinearOps::bias_gradient(const ConstTensorView& dy_RO, Linears layers) const {
  for_each_layer(parameters_, layers, [&](const Linear& layer, int column, int outputs) {
    if (layer.bias >= 0 && parameters_.at(layer.bias).trainable)
      backend_.bias_grad(stream_, {dy_RO.view_cols(column, outputs), parameters_.gradient(layer.bias).data});
  });
}

void LinearOps::forward_residual(const ConstTensorView& x_RI, Linear layer, Matrix<const float> addend_RO,
                                 Matrix<float> y_RO) const {
  if (parameters_.at(layer.weight).quantized) {
    forward(x_RI, {{layer.weight}}, y_RO);
    backend_.add(stream_, {span_of(addend_RO), span_of(y_RO)});
  } else {
    const ConstTensorView w_OI = parameters_.weight(layer.weight);
    backend_.matmul(stream_, {.a = x_RI, .b = w_OI, .c = y_RO, .transpose_b = true, .residual = addend_RO});
  }
  add_lora(x_RI, layer.lora, y_RO);
}

}  // namespace slipway
