#include "src/model/linear.hpp"

namespace slipway {
namespace {

/// Calls `act(slice, its first column of y)` for each group of layers whose weights are adjacent in the arena. Such a
/// group is one matrix: a slice that begins in the group's first weight and extends into the others.
template <class Act>
void for_each_fused(const Parameters& parameters, Maps maps, const Act& act) {
  int column = 0;
  for (const Parameters::Handle* first = maps.begin(); first != maps.end();) {
    int rows = parameters.at(*first).local_rows;
    const Parameters::Handle* next = first + 1;
    for (; next != maps.end() && parameters.adjacent(next[-1], *next); ++next) rows += parameters.at(*next).local_rows;
    act(WeightSlice{*first, 0, rows}, column);
    column += rows;
    first = next;
  }
}

}  // namespace

void Linear::forward(const Operand& x_RI, WeightSlice part, const Activation& y_RO) const {
  if (parameters_.at(part.map).quantized) {
    const QuantizedRows w_OI = parameters_.quantized(part.map, part.first, part.rows);
    return kernels_.matmul_quantized(stream_, {.a = x_RI, .w = w_OI, .c = y_RO});
  }
  const Operand w_OI = parameters_.weight(part.map, part.first, part.rows);
  kernels_.matmul(stream_, {.a = x_RI, .b = w_OI, .c = y_RO, .transpose_b = true});
}

void Linear::input_gradient(const Operand& dy_RO, WeightSlice part, const Activation& dx_RI, bool accumulate) const {
  const Operand w_OI = parameters_.weight(part.map, part.first, part.rows);
  kernels_.matmul(stream_, {.a = dy_RO, .b = w_OI, .c = dx_RI, .accumulate = accumulate});
}

void Linear::weight_gradient(const Operand& dy_RO, const Operand& x_RI, WeightSlice part) const {
  const Matrix<float> dw_OI = parameters_.gradient(part.map, part.first, part.rows);
  kernels_.matmul(stream_, {.a = dy_RO, .b = x_RI, .c = dw_OI, .transpose_a = true, .accumulate = true});
}

void Linear::forward(const Operand& x_RI, Maps maps, const Activation& y_RO) const {
  for_each_fused(parameters_, maps,
                 [&](WeightSlice part, int column) { forward(x_RI, part, y_RO.view_cols(column, part.rows)); });
}

void Linear::input_gradient(const Operand& dy_RO, Maps maps, const Activation& dx_RI) const {
  for_each_fused(parameters_, maps, [&](WeightSlice part, int column) {
    input_gradient(dy_RO.view_cols(column, part.rows), part, dx_RI, /*accumulate=*/column > 0);
  });
}

void Linear::weight_gradient(const Operand& dy_RO, const Operand& x_RI, Maps maps) const {
  for_each_fused(parameters_, maps, [&](WeightSlice part, int column) {
    weight_gradient(dy_RO.view_cols(column, part.rows), x_RI, part);
  });
}

void Linear::forward_residual(const Operand& x_RI, Parameters::Handle map, Matrix<const float> addend_RO,
                              Matrix<float> y_RO) const {
  if (parameters_.at(map).quantized) {
    forward(x_RI, {map}, y_RO);
    return kernels_.add(stream_, {{addend_RO.data, static_cast<std::size_t>(addend_RO.size())},
                                  {y_RO.data, static_cast<std::size_t>(y_RO.size())}});
  }
  const Operand w_OI = parameters_.weight(map, 0, parameters_.at(map).local_rows);
  kernels_.matmul(stream_, {.a = x_RI, .b = w_OI, .c = y_RO, .transpose_b = true, .addend = addend_RO});
}

}  // namespace slipway
