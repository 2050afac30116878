#include "src/model/head.hpp"

#include <algorithm>

#include "src/core/profile.hpp"

namespace slipway {

constexpr int kFewestRows = 32;

int LossHead::chunk_rows(int rows) const {
  return std::clamp(kChunkLogits / std::max(1, split_.vocabulary.room), std::min(rows, kFewestRows), std::max(rows, 1));
}

Matrix<float> LossHead::chunk(const Pass& pass, const Operand& head_VD, const LossRows& rows, int first, int count) {
  const int V = split_.vocabulary.room;
  const auto n = static_cast<std::size_t>(count);
  const std::size_t needed = n * static_cast<std::size_t>(V);
  if (logits_.size() < needed) logits_ = Buffer<float>(needed);
  target_.resize(n), shares_.resize(n), lse_.resize(n), weight_.resize(n);

  const Matrix<float> logits = logits_.matrix(count, V);
  pass.products.forward(rows.hidden_RD.view_rows(first, count), head_VD, logits);
  for (std::size_t r = 0; r < n; ++r)
    target_[r] = rows.target_R[static_cast<std::size_t>(first) + r] - split_.vocabulary.first;
  pass.kernels.softmax_shares(pass.stream, {logits, target_.data(), split_.vocabulary.count, shares_.data()});

  const auto size = static_cast<std::size_t>(split_.size);
  all_shares_.resize(n * size);
  pass.tensor.all_gather(shares_.data(), n * sizeof(SoftmaxShare), all_shares_.data());
  for (std::size_t r = 0; r < n; ++r) {
    const JoinedSoftmax joined = join_softmax(all_shares_.data() + r, split_.size, count);
    const float weight = rows.weight_R[static_cast<std::size_t>(first) + r];
    lse_[r] = joined.lse;
    rows.nats_R[static_cast<std::size_t>(first) + r] = weight == 0.0f ? 0.0f : joined.lse - joined.target;
  }
  return logits;
}

void LossHead::loss(const Pass& pass, const Operand& head_VD, const LossRows& rows) {
  const int R = rows.hidden_RD.rows, step = chunk_rows(R);
  for (int first = 0; first < R; first += step) chunk(pass, head_VD, rows, first, std::min(step, R - first));
}

void LossHead::loss_and_gradient(const Pass& pass, const Operand& head_VD, const LossRows& rows, float scale,
                                 Matrix<float> dhidden_RD, Matrix<float> dhead_VD) {
  const profile::Scope scope("loss head");
  const int R = rows.hidden_RD.rows, step = chunk_rows(R);
  for (int first = 0; first < R; first += step) {
    const int count = std::min(step, R - first);
    const Matrix<float> logits = chunk(pass, head_VD, rows, first, count);
    for (std::size_t r = 0; r < static_cast<std::size_t>(count); ++r)
      weight_[r] = scale * rows.weight_R[static_cast<std::size_t>(first) + r];
    pass.kernels.cross_entropy_grad(pass.stream,
                                    {logits, target_.data(), lse_.data(), weight_.data(), split_.vocabulary.count});
    pass.products.input_gradient(logits, head_VD, dhidden_RD.view_rows(first, count));
    pass.products.weight_gradient(logits, rows.hidden_RD.view_rows(first, count), dhead_VD, head_VD.dtype);
  }
  pass.tensor.all_reduce_sum({dhidden_RD.data, static_cast<std::size_t>(dhidden_RD.size())});
}

void LossHead::logits(const Pass& pass, const Operand& head_VD, Matrix<const float> hidden_RD,
                      Matrix<float> logits_RV) {
  require(split_.size == 1, "LossHead::logits: whole rows of logits need a tensor group of one");
  pass.products.forward(hidden_RD, head_VD, logits_RV);
}

}  // namespace slipway
