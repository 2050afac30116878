// Formulas of kernels/elementwise.hpp, for a row or for a block of a range.
#pragma once

#include "kernels/elementwise.hpp"
#include "kernels/team.hpp"

namespace slipway::body {

template <Team T>
SLIPWAY_HD void add(const T& team, const Add& op, std::size_t first, int count) {
  const float *x = op.x.data() + first, *y = op.y.data() + first;
  float* out = (op.sum.empty() ? op.y.data() : op.sum.data()) + first;
  team.for_each(
      count, [](float x_i, float y_i, float& sum) { sum = y_i + x_i; }, x, y, write_only(out));
}

template <Team T>
SLIPWAY_HD void scale(const T& team, const Scale& op, std::size_t first, int count) {
  float* x = op.x.data() + first;
  const float factor = op.factor;
  team.for_each(
      count, [=](float& x_i) { x_i *= factor; }, x);
}

template <class A, Team T>
SLIPWAY_HD void add_bias(const T& team, const AddBias& op, int r) {
  const float* bias_D = op.bias_D;
  A* y_D = op.y_RD.row<A>(r);
  team.for_each(
      op.y_RD.cols, [](float bias, float& y) { y += bias; }, bias_D, y_D);
}

/// Adds row r to `dbias_D` (the sum of its block of rows).
template <class A, Team T>
SLIPWAY_HD void bias_grad(const T& team, const BiasGrad& op, int r, float* dbias_D) {
  const A* dy_D = op.dy_RD.row<A>(r);
  team.for_each(
      op.dy_RD.cols, [](float dy, float& dbias) { dbias += dy; }, dy_D, dbias_D);
}

/// Copies bf16 as integers, so that every bit is preserved.
template <class A, Team T>
SLIPWAY_HD void copy(const T& team, const Copy& op, int r) {
  using Bits = std::conditional_t<std::is_same_v<A, Bf16>, std::uint16_t, A>;
  const Bits* x_D = op.x_RD.row<Bits>(r);
  Bits* y_D = op.y_RD.row<Bits>(r);
  team.for_each(
      op.x_RD.cols, [](Bits x, Bits& y) { y = x; }, x_D, write_only(y_D));
}

template <class A, Team T>
SLIPWAY_HD void clear(const T& team, const Clear& op, int r) {
  A* x_D = op.x_RD.row<A>(r);
  team.for_each(
      op.x_RD.cols, [](float& x) { x = 0.0f; }, write_only(x_D));
}

template <Team T>
SLIPWAY_HD void to_bf16(const T& team, const ToBf16& op, int r) {
  const float* x_D = op.x_RD.row(r);
  Bf16* y_D = op.y_RD.row(r);
  team.for_each(
      op.x_RD.cols, [](float x, float& y) { y = x; }, x_D, write_only(y_D));
}

}  // namespace slipway::body
