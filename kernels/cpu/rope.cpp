#include "kernels/body/rope.hpp"

#include <cmath>

#include "kernels/checks.hpp"
#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/parallel.hpp"

namespace slipway {
namespace cpu {

void rope(Stream& stream, const Rope& op) {
  check(op);
  for (int n = 0; n < op.x_NHK.rows; ++n)
    require(op.position_N[n] >= 0 && op.position_N[n] < op.cos_PJ.rows, "rope: a position lies outside the table");
  dispatch_dtype(op.x_NHK.dtype, [&]<class A>(Type<A>) {
    for_each_row(stream, op.x_NHK.rows * (op.x_NHK.cols / op.head_width), op.head_width,
                 [&](int v) { body::rope<A>(SerialTeam{}, op, v); });
  });
}

}  // namespace cpu

void rope_table(Matrix<float> cos_PJ, Matrix<float> sin_PJ, int head_width, double base,
                std::span<const float> divisors) {
  require_same_shape("rope_table", cos_PJ, sin_PJ);
  require(head_width >= 2 && head_width % 2 == 0 && cos_PJ.cols == head_width / 2 &&
              (divisors.empty() || std::ssize(divisors) == head_width / 2),
          "rope_table: needs an even head width, and half of it as columns and divisors");
  for (int j = 0; j < cos_PJ.cols; ++j) {
    const double divisor = divisors.empty() ? 1.0 : double{divisors[static_cast<std::size_t>(j)]};
    const double frequency = std::pow(base, -2.0 * j / head_width) / divisor;
    for (int p = 0; p < cos_PJ.rows; ++p) {
      cos_PJ.row(p)[j] = static_cast<float>(std::cos(p * frequency));
      sin_PJ.row(p)[j] = static_cast<float>(std::sin(p * frequency));
    }
  }
}

}  // namespace slipway
