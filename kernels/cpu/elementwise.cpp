#include "kernels/body/elementwise.hpp"

#include "kernels/checks.hpp"
#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/sum_rows.hpp"

namespace slipway::cpu {

void add(Stream& stream, const Add& op) {
  check(op);
  for_each_block(stream, op.y.size(), kChunk, 1,
                 [&](std::int64_t, std::size_t first, int count) { body::add(SerialTeam{}, op, first, count); });
}

void scale(Stream& stream, const Scale& op) {
  for_each_block(stream, op.x.size(), kChunk, 1,
                 [&](std::int64_t, std::size_t first, int count) { body::scale(SerialTeam{}, op, first, count); });
}

void add_bias(Stream& stream, const AddBias& op) {
  dispatch_dtype(op.y_RD.dtype, [&]<class A>(Type<A>) {
    for_each_row(stream, op.y_RD.rows, op.y_RD.cols, [&](int r) { body::add_bias<A>(SerialTeam{}, op, r); });
  });
}

void bias_grad(Stream& stream, const BiasGrad& op) {
  dispatch_dtype(op.dy_RD.dtype, [&]<class A>(Type<A>) {
    sum_rows(stream, op.dy_RD.rows, op.dy_RD.cols, {op.dbias_D},
             [&](int r, float* dbias_D) { body::bias_grad<A>(SerialTeam{}, op, r, dbias_D); });
  });
}

void copy(Stream& stream, const Copy& op) {
  check(op);
  dispatch_dtype(op.x_RD.dtype, [&]<class A>(Type<A>) {
    for_each_row(stream, op.x_RD.rows, op.x_RD.cols, [&](int r) { body::copy<A>(SerialTeam{}, op, r); });
  });
}

void clear(Stream& stream, const Clear& op) {
  dispatch_dtype(op.x_RD.dtype, [&]<class A>(Type<A>) {
    for_each_row(stream, op.x_RD.rows, op.x_RD.cols, [&](int r) { body::clear<A>(SerialTeam{}, op, r); });
  });
}

void to_bf16(Stream& stream, const ToBf16& op) {
  check(op);
  for_each_row(stream, op.x_RD.rows, op.x_RD.cols, [&](int r) { body::to_bf16(SerialTeam{}, op, r); });
}

}  // namespace slipway::cpu
