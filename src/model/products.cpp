#include "src/model/products.hpp"

namespace slipway {
namespace {

/// `act(part, its first column of y)` for each run of maps whose weights are neighbours in the arena: such a run is one
/// matrix, a part of its first map that goes on beyond it.
template <class Act>
void each_run(const Parameters& parameters, Maps maps, const Act& act) {
  int column = 0;
  for (const Parameters::Handle* first = maps.begin(); first != maps.end();) {
    int rows = parameters.at(*first).local_rows;
    const Parameters::Handle* next = first + 1;
    for (; next != maps.end() && parameters.adjacent(next[-1], *next); ++next) rows += parameters.at(*next).local_rows;
    act(MapPart{*first, 0, rows}, column);
    column += rows;
    first = next;
  }
}

}  // namespace

void Products::forward(const Operand& x_RI, MapPart part, const Activation& y_RO) const {
  if (parameters_.at(part.map).quantized) {
    const QuantizedRows w_OI = parameters_.quantized(part.map, part.first, part.rows);
    return kernels_.matmul_quantized(stream_, {.a = x_RI, .w = w_OI, .c = y_RO});
  }
  const Operand w_OI = parameters_.weight(part.map, part.first, part.rows);
  kernels_.matmul(stream_, {.a = x_RI, .b = w_OI, .c = y_RO, .transpose_b = true});
}

void Products::input_gradient(const Operand& dy_RO, MapPart part, const Activation& dx_RI, bool accumulate) const {
  const Operand w_OI = parameters_.weight(part.map, part.first, part.rows);
  kernels_.matmul(stream_, {.a = dy_RO, .b = w_OI, .c = dx_RI, .accumulate = accumulate});
}

void Products::weight_gradient(const Operand& dy_RO, const Operand& x_RI, MapPart part) const {
  const Matrix<float> dw_OI = parameters_.gradient(part.map, part.first, part.rows);
  kernels_.matmul(stream_, {.a = dy_RO, .b = x_RI, .c = dw_OI, .transpose_a = true, .accumulate = true});
}

void Products::forward(const Operand& x_RI, Maps maps, const Activation& y_RO) const {
  each_run(parameters_, maps,
           [&](MapPart part, int column) { forward(x_RI, part, y_RO.view_cols(column, part.rows)); });
}

void Products::input_gradient(const Operand& dy_RO, Maps maps, const Activation& dx_RI) const {
  each_run(parameters_, maps, [&](MapPart part, int column) {
    input_gradient(dy_RO.view_cols(column, part.rows), part, dx_RI, /*accumulate=*/column > 0);
  });
}

void Products::weight_gradient(const Operand& dy_RO, const Operand& x_RI, Maps maps) const {
  each_run(parameters_, maps,
           [&](MapPart part, int column) { weight_gradient(dy_RO.view_cols(column, part.rows), x_RI, part); });
}

void Products::forward_added(const Operand& x_RI, Parameters::Handle map, Matrix<const float> addend_RO,
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
