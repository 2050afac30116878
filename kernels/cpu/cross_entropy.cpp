#include "kernels/body/cross_entropy.hpp"

#include "kernels/checks.hpp"
#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/parallel.hpp"

namespace slipway::cpu {

void softmax_partials(Stream& stream, const SoftmaxPartials& op) {
  check(op);
  const auto rows = [&]<class E>(Type<E>) {
    for_each_row(stream, op.logits_RV.rows, op.logits_RV.cols,
                 [&](int r) { op.partial_R[r] = body::softmax_partial<E>(SerialTeam{}, op, r); });
  };
  if (op.exp_RV.data == nullptr) return rows(Type<void>{});
  dispatch_dtype(op.exp_RV.dtype, rows);
}

void cross_entropy_grad(Stream& stream, const CrossEntropyGrad& op) {
  dispatch_dtype(op.exp_RV.dtype, [&]<class E>(Type<E>) {
    for_each_row(stream, op.exp_RV.rows, op.exp_RV.cols,
                 [&](int r) { body::cross_entropy_grad<E>(SerialTeam{}, op, r); });
  });
}

/// Serial, since there are few rows.
void weighted_sum(Stream&, const WeightedSum& op) {
  double sum = 0;
  for (int r = 0; r < op.count; ++r) sum += static_cast<double>(op.weight_R[r]) * static_cast<double>(op.x_R[r]);
  *op.result = sum;
}

void merge_partials(Stream& stream, const MergePartials& op) {
  constexpr int kWork = 32;  // cost of an exponential in f64, in elements of other ops
  for_each_row(stream, op.rows, kWork * op.count, [&](int r) { body::merge_partials(op, r); });
}

}  // namespace slipway::cpu
