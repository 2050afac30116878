// Formulas of kernels/rope.hpp, for one head: head v % heads of row v / heads.
#pragma once

#include "kernels/rope.hpp"
#include "kernels/team.hpp"

namespace slipway::body {

template <class A, Team T>
SLIPWAY_HD void rope(const T& team, const Rope& op, int v) {
  const int J = op.head_width / 2, heads = op.x_NHK.cols / op.head_width, n = v / heads;
  const float* cos_J = op.cos_PJ.row(op.position_N[n]);
  const float* sin_J = op.sin_PJ.row(op.position_N[n]);
  const float sign = op.inverse ? -1.0f : 1.0f;

  A* x_K = op.x_NHK.row<A>(n) + v % heads * op.head_width;
  const auto rotate = [=](float cos, float sin, float& x1, float& x2) {
    const float s = sign * sin, first = x1, second = x2;
    x1 = first * cos - second * s;
    x2 = second * cos + first * s;
  };
  team.for_each(J, rotate, cos_J, sin_J, x_K, x_K + J);
}

}  // namespace slipway::body
