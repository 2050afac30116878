#include "kernels/body/cross_entropy.hpp"

#include <cmath>
#include <limits>

#include "kernels/checks.hpp"
#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/parallel.hpp"

namespace slipway {
namespace cpu {

void softmax_shares(Stream&, const SoftmaxShares& op) {
  check(op);
  const auto rows = [&]<class E>(Type<E>) {
    each_row(op.logits_RV.rows, op.logits_RV.cols,
             [&](int r) { op.share_R[r] = body::softmax_share<E>(SerialTeam{}, op, r); });
  };
  if (op.exp_RV.data == nullptr) return rows(Type<void>{});
  by_type(op.exp_RV.dtype, rows);
}

void cross_entropy_grad(Stream&, const CrossEntropyGrad& op) {
  by_type(op.exp_RV.dtype, [&]<class E>(Type<E>) {
    each_row(op.exp_RV.rows, op.exp_RV.cols, [&](int r) { body::cross_entropy_grad<E>(SerialTeam{}, op, r); });
  });
}

}  // namespace cpu

JoinedSoftmax join_softmax(const SoftmaxShare* shares, int count, int stride) {
  double max = -std::numeric_limits<double>::infinity();
  for (int i = 0; i < count; ++i) max = std::fmax(max, shares[std::ptrdiff_t{i} * stride].max);

  double sum = 0, target = 0;
  for (int i = 0; i < count; ++i) {
    const SoftmaxShare& share = shares[std::ptrdiff_t{i} * stride];
    if (share.sum == 0.0f) continue;  // no column of its own; NaN goes on
    sum += share.sum * std::exp(share.max - max);
    target += share.target;
  }
  return {.lse = static_cast<float>(max + std::log(sum)), .target = static_cast<float>(target)};
}

}  // namespace slipway
