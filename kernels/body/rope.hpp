// Formula of kernels/rope.hpp, for one row of heads.
#pragma once

#include "kernels/rope.hpp"
#include "kernels/team.hpp"

namespace slipway::body {

template <class A, Team T>
SLIPWAY_HD void rope(const T& team, const Rope& op, int n) {
  const int J = op.head_width / 2;
  const int heads = op.x_NHK.cols / op.head_width;
  const float* cos_J = op.cos_PJ.row(op.position_N[n]);
  const float* sin_J = op.sin_PJ.row(op.position_N[n]);
  const float turn = op.inverse ? -1.0f : 1.0f;

  for (int h = 0; h < heads; ++h) {
    A* x_K = op.x_NHK.row<A>(n) + h * op.head_width;
    team.each(J, [=](int j) {
      const float x1 = to_f32(x_K[j]), x2 = to_f32(x_K[j + J]);
      const float c = cos_J[j], s = turn * sin_J[j];
      x_K[j] = narrowed<A>(x1 * c - x2 * s);
      x_K[j + J] = narrowed<A>(x2 * c + x1 * s);
    });
  }
}

}  // namespace slipway::body
