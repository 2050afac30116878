// Formulas of kernels/elementwise.hpp, for a row or for a block of a range.
#pragma once

#include "kernels/elementwise.hpp"
#include "kernels/team.hpp"

namespace slipway::body {

template <Team T>
SLIPWAY_HD void add(const T& team, const Add& op, std::size_t first, int count) {
  const float* x = op.x.data() + first;
  float* y = op.y.data() + first;
  team.each(count, [=](int i) { y[i] += x[i]; });
}

template <Team T>
SLIPWAY_HD void scale(const T& team, const Scale& op, std::size_t first, int count) {
  float* x = op.x.data() + first;
  const float factor = op.factor;
  team.each(count, [=](int i) { x[i] *= factor; });
}

template <class A, Team T>
SLIPWAY_HD void add_bias(const T& team, const AddBias& op, int r) {
  const float* bias_D = op.bias_D;
  A* y_D = op.y_RD.row<A>(r);
  team.each(op.y_RD.cols, [=](int d) { y_D[d] = narrowed<A>(to_f32(y_D[d]) + bias_D[d]); });
}

/// Adds row r to `dbias_D` (the sum of its block of rows).
template <class A, Team T>
SLIPWAY_HD void bias_grad(const T& team, const BiasGrad& op, int r, float* dbias_D) {
  const A* dy_D = op.dy_RD.row<A>(r);
  team.each(op.dy_RD.cols, [=](int d) { dbias_D[d] += to_f32(dy_D[d]); });
}

template <class A, Team T>
SLIPWAY_HD void copy(const T& team, const Copy& op, int r) {
  const A* x_D = op.x_RD.row<A>(r);
  A* y_D = op.y_RD.row<A>(r);
  team.each(op.x_RD.cols, [=](int d) { y_D[d] = x_D[d]; });
}

template <class A, Team T>
SLIPWAY_HD void clear(const T& team, const Clear& op, int r) {
  A* x_D = op.x_RD.row<A>(r);
  team.each(op.x_RD.cols, [=](int d) { x_D[d] = A{}; });
}

template <Team T>
SLIPWAY_HD void to_bf16(const T& team, const ToBf16& op, int r) {
  const float* x_D = op.x_RD.row(r);
  Bf16* y_D = op.y_RD.row(r);
  team.each(op.x_RD.cols, [=](int d) { y_D[d] = slipway::to_bf16(x_D[d]); });
}

}  // namespace slipway::body
