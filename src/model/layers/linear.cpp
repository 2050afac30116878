#include "src/model/layers/linear.hpp"

namespace slipway {
namespace {

/// Calls `act(slice, its first column of y)` for each group of layers whose weights are adjacent in the arena. Such a
/// group is one matrix: a slice that begins in the group's first weight and extends into the others.
template <class Act>
void for_each_fused(const Parameters& parameters, Linears layers, const Act& act) {
  int column = 0;
  for (const Linear* first = layers.begin(); first != layers.end();) {
    int rows = parameters.at(first->weight).local_rows;
    const Linear* next = first + 1;
    for (; next != layers.end() && parameters.adjacent(next[-1].weight, next->weight); ++next)
      rows += parameters.at(next->weight).local_rows;
    act(WeightSlice{first->weight, 0, rows}, column);
    column += rows;
    first = next;
  }
}

/// Calls `act(layer, its first column of y, its columns)` for each layer that has a bias.
template <class Act>
void for_each_bias(const Parameters& parameters, Linears layers, const Act& act) {
  int column = 0;
  for (const Linear& layer : layers) {
    const int outputs = parameters.at(layer.weight).local_rows;
    if (layer.bias >= 0) act(layer, column, outputs);
    column += outputs;
  }
}

}  // namespace

void LinearOps::forward(const ConstTensorView& x_RI, WeightSlice part, const TensorView& y_RO) const {
  if (parameters_.at(part.weight).quantized) {
    const QuantizedRows w_OI = parameters_.quantized(part.weight, part.first, part.rows);
    return backend_.matmul_quantized(stream_, {.a = x_RI, .w = w_OI, .c = y_RO});
  }
  const ConstTensorView w_OI = parameters_.weight(part.weight, part.first, part.rows);
  backend_.matmul(stream_, {.a = x_RI, .b = w_OI, .c = y_RO, .transpose_b = true});
}

void LinearOps::input_gradient(const ConstTensorView& dy_RO, WeightSlice part, const TensorView& dx_RI,
                               bool accumulate) const {
  const ConstTensorView w_OI = parameters_.weight(part.weight, part.first, part.rows);
  backend_.matmul(stream_, {.a = dy_RO, .b = w_OI, .c = dx_RI, .accumulate = accumulate});
}

void LinearOps::weight_gradient(const ConstTensorView& dy_RO, const ConstTensorView& x_RI, WeightSlice part) const {
  if (!parameters_.at(part.weight).trainable) return;
  const Matrix<float> dw_OI = parameters_.gradient(part.weight, part.first, part.rows);
  backend_.matmul(stream_, {.a = dy_RO, .b = x_RI, .c = dw_OI, .transpose_a = true, .accumulate = true});
}

void LinearOps::forward(const ConstTensorView& x_RI, Linears layers, const TensorView& y_RO) const {
  for_each_fused(parameters_, layers,
                 [&](WeightSlice part, int column) { forward(x_RI, part, y_RO.view_cols(column, part.rows)); });
  for_each_bias(parameters_, layers, [&](const Linear& layer, int column, int outputs) {
    backend_.add_bias(stream_, {parameters_.value(layer.bias).data, y_RO.view_cols(column, outputs)});
  });
}

void LinearOps::input_gradient(const ConstTensorView& dy_RO, Linears layers, const TensorView& dx_RI) const {
  for_each_fused(parameters_, layers, [&](WeightSlice part, int column) {
    input_gradient(dy_RO.view_cols(column, part.rows), part, dx_RI, /*accumulate=*/column > 0);
  });
}

void LinearOps::weight_gradient(const ConstTensorView& dy_RO, const ConstTensorView& x_RI, Linears layers) const {
  for_each_fused(parameters_, layers, [&](WeightSlice part, int column) {
    weight_gradient(dy_RO.view_cols(column, part.rows), x_RI, part);
  });
}

void LinearOps::bias_gradient(const ConstTensorView& dy_RO, Linears layers) const {
  for_each_bias(parameters_, layers, [&](const Linear& layer, int column, int outputs) {
    if (parameters_.at(layer.bias).trainable)
      backend_.bias_grad(stream_, {dy_RO.view_cols(column, outputs), parameters_.gradient(layer.bias).data});
  });
}

void LinearOps::forward_residual(const ConstTensorView& x_RI, Linear layer, Matrix<const float> addend_RO,
                                 Matrix<float> y_RO) const {
  if (parameters_.at(layer.weight).quantized) {
    forward(x_RI, {{layer.weight}}, y_RO);
    return backend_.add(stream_, {{addend_RO.data, static_cast<std::size_t>(addend_RO.size())},
                                  {y_RO.data, static_cast<std::size_t>(y_RO.size())}});
  }
  const ConstTensorView w_OI = parameters_.weight(layer.weight, 0, parameters_.at(layer.weight).local_rows);
  backend_.matmul(stream_, {.a = x_RI, .b = w_OI, .c = y_RO, .transpose_b = true, .addend = addend_RO});
}

}  // namespace slipway
