#include "src/model/products.hpp"

namespace slipway {

Operand Products::narrow(Matrix<const float> x, DType dtype, Buffer<Bf16>& scratch) {
  if (dtype == DType::kF32) return x;
  if (scratch.size() < static_cast<std::size_t>(x.size())) scratch = Buffer<Bf16>(static_cast<std::size_t>(x.size()));
  const Matrix<Bf16> narrowed = scratch.matrix(x.rows, x.cols);
  kernels_.to_bf16(stream_, {x, narrowed});
  return narrowed;
}

void Products::forward(Matrix<const float> x_RI, const Operand& w_OI, Matrix<float> y_RO) {
  kernels_.matmul(stream_, {.a = narrow(x_RI, w_OI.dtype, left_), .b = w_OI, .c = y_RO, .transpose_b = true});
}

void Products::input_gradient(Matrix<const float> dy_RO, const Operand& w_OI, Matrix<float> dx_RI, bool accumulate) {
  kernels_.matmul(stream_, {.a = narrow(dy_RO, w_OI.dtype, left_), .b = w_OI, .c = dx_RI, .accumulate = accumulate});
}

void Products::weight_gradient(Matrix<const float> dy_RO, Matrix<const float> x_RI, Matrix<float> dw_OI,
                               DType compute) {
  kernels_.matmul(stream_, {.a = narrow(dy_RO, compute, left_),
                            .b = narrow(x_RI, compute, right_),
                            .c = dw_OI,
                            .transpose_a = true,
                            .accumulate = true});
}

}  // namespace slipway
