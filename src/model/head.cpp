#include "src/model/head.hpp"

#include <algorithm>

#include "src/core/allocation_tag.hpp"
#include "src/core/profile.hpp"

namespace slipway {

LossHead::Tile LossHead::tile(int index) const {
  const int first = index * tiles_.columns, cols = std::min(tiles_.columns, shard_.vocabulary.padded_size - first);
  return {first, cols, std::clamp(shard_.vocabulary.count - first, 0, cols)};
}

TensorView LossHead::exp_tile(const Tile& tile, int count) {
  return exp_buffer_.part(static_cast<std::size_t>(tile.first) * static_cast<std::size_t>(count), count, tile.cols);
}

void LossHead::reserve_buffers(std::size_t rows, DType compute_dtype, bool keep_exp, bool in_place,
                               MemorySpace& space) {
  const AllocationTag tag(MemoryKind::kLogits, "logits of", static_cast<std::int64_t>(rows), "tokens");
  const std::size_t chunk = rows * static_cast<std::size_t>(shard_.vocabulary.padded_size),
                    tile = rows * static_cast<std::size_t>(std::min(tiles_.columns, shard_.vocabulary.padded_size));
  if (keep_exp && exp_buffer_.size() < chunk) exp_buffer_ = TensorBuffer(compute_dtype, chunk, space);
  if (!in_place) logits_.reserve(tile, space);
  tile_partials_.reserve(rows * static_cast<std::size_t>(tiles()), space);
  rank_partials_.reserve(rows * static_cast<std::size_t>(shard_.size), space);
  row_partials_.reserve(rows, space), lse_.reserve(rows, space);
}

void LossHead::softmax_statistics(const PassContext& pass, Parameters::Handle head_VD, const LossRows& rows, int first,
                                  int count, bool keep_exp) {
  const DType compute_dtype = pass.parameters.compute_dtype();
  const bool in_place = keep_exp && compute_dtype == DType::kF32;  // exponentials overwrite the logits
  const auto n = static_cast<std::size_t>(count);
  reserve_buffers(n, compute_dtype, keep_exp, in_place, *pass.backend.memory);
  for (int index = 0; index < tiles(); ++index) {
    const Tile vocab_tile = tile(index);
    const TensorView exp = keep_exp ? exp_tile(vocab_tile, count) : TensorView();
    const Matrix<float> logits = in_place ? exp.as<float>() : logits_.matrix(count, vocab_tile.cols);
    pass.linear.forward(rows.hidden_RD.view_rows(first, count), WeightSlice{head_VD, vocab_tile.first, vocab_tile.cols},
                        logits);
    pass.backend.softmax_partials(pass.stream,
                                  {.logits_RV = logits,
                                   .target_R = rows.target_R + first,
                                   .valid_cols = vocab_tile.valid,
                                   .partial_R = tile_partials_.data() + n * static_cast<std::size_t>(index),
                                   .exp_RV = exp,
                                   .vocab_start = shard_.vocabulary.first + vocab_tile.first});
  }
  pass.backend.merge_partials(pass.stream, {.partials = tile_partials_.data(),
                                            .count = tiles(),
                                            .stride = count,
                                            .rows = count,
                                            .merged_R = row_partials_.data()});
  pass.tensor.all_gather(row_partials_.data(), n * sizeof(SoftmaxPartial), rank_partials_.data());
  pass.backend.merge_partials(pass.stream, {.partials = rank_partials_.data(),
                                            .count = shard_.size,
                                            .stride = count,
                                            .rows = count,
                                            .lse_R = lse_.data(),
                                            .weight_R = rows.weight_R + first,
                                            .loss_R = rows.loss_R + first});
}

void LossHead::loss(const PassContext& pass, Parameters::Handle head_VD, const LossRows& rows) {
  const int R = rows.hidden_RD.rows;
  for (int first = 0; first < R; first += tiles_.rows)
    softmax_statistics(pass, head_VD, rows, first, std::min(tiles_.rows, R - first), /*keep_exp=*/false);
}

void LossHead::loss_and_gradient(const PassContext& pass, Parameters::Handle head_VD, const LossRows& rows,
                                 Matrix<float> dhidden_RD) {
  const profile::Scope scope("loss head");
  const int R = rows.hidden_RD.rows;
  for (int first = 0; first < R; first += tiles_.rows) {
    const int count = std::min(tiles_.rows, R - first);
    softmax_statistics(pass, head_VD, rows, first, count, /*keep_exp=*/true);
    for (int index = 0; index < tiles(); ++index) {
      const Tile vocab_tile = tile(index);
      const WeightSlice weight{head_VD, vocab_tile.first, vocab_tile.cols};
      const TensorView dlogits = exp_tile(vocab_tile, count);
      pass.backend.cross_entropy_grad(pass.stream,
                                      {.exp_RV = dlogits,
                                       .target_R = rows.target_R + first,
                                       .partial_R = tile_partials_.data() + static_cast<std::size_t>(count * index),
                                       .lse_R = lse_.data(),
                                       .weight_R = rows.scaled_weight_R + first,
                                       .valid_cols = vocab_tile.valid,
                                       .vocab_start = shard_.vocabulary.first + vocab_tile.first});
      pass.linear.input_gradient(dlogits, weight, dhidden_RD.view_rows(first, count), /*accumulate=*/index > 0);
      pass.linear.weight_gradient(dlogits, rows.hidden_RD.view_rows(first, count), weight);
    }
  }
  pass.rows.reduce_scatter(dhidden_RD);
}

void LossHead::logits(const PassContext& pass, Parameters::Handle head_VD, const ConstTensorView& hidden_RD,
                      Matrix<float> logits_RV) {
  require(shard_.size == 1, "LossHead::logits: whole rows of logits need a tensor group of one");
  pass.linear.forward(hidden_RD, {{head_VD}}, logits_RV);
}

}  // namespace slipway
