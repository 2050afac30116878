#include "src/train/optimizer.hpp"

#include <algorithm>
#include <cmath>

#include "src/core/profile.hpp"

namespace slipway {
namespace {

// Root mean square of an update's elements at rate 1: AdamW's lies between 0.2 and 0.4 in practice (Liu et al., 2025).
constexpr double kMuonSize = 0.2;

}  // namespace

Optimizer::Optimizer(const OptimConfig& config, Parameters& parameters, const KernelTable& kernels, Mesh& mesh)
    : config_(config),
      parameters_(parameters),
      kernels_(kernels),
      data_(*mesh.data),
      tensor_(*mesh.tensor),
      owned_(Group::owned_range(parameters.values().size(), mesh.data->rank(), mesh.data->size())),
      first_moments_(owned_.count, parameters.space()) {
  if (config.is_muon()) muon_.emplace(Muon{{parameters, kernels, mesh}, {kernels, parameters.compute()}});
  std::size_t seconds = 0;
  for (const ArenaPiece& piece : parameters.pieces(owned_.first, owned_.count))
    if (!by_muon(*piece.parameter)) seconds += piece.count;
  second_moments_ = Buffer<float>(seconds, parameters.space());
  seconds = 0;
  for (const ArenaPiece& piece : parameters.pieces(owned_.first, owned_.count)) {
    const std::span<float> first = first_moments_.span().subspan(piece.first - owned_.first, piece.count);
    if (by_muon(*piece.parameter)) {
      pieces_.push_back({piece, {{"muon_m", first}}});
      continue;
    }
    pieces_.push_back({piece, {{"adam_m", first}, {"adam_v", second_moments_.span().subspan(seconds, piece.count)}}});
    seconds += piece.count;
  }
}

double Optimizer::norm(std::span<const float> gradients) {
  const auto slots = static_cast<std::size_t>(parameters_.slots());
  const std::size_t chunk = gradients.size() / slots, shared = parameters_.shared_size();
  // Tensor ranks hold [0, shared) alike and the rest apart: the first counts once, the second adds up.
  struct Squares {
    double shared = 0, divided = 0;
  };
  std::vector<Squares> mine(slots);  // 0 but for the chunks of this rank
  const std::size_t first = owned_.first / chunk, count = owned_.count / chunk;
  double* const sums = squares_.into({&mine[first].shared, 2 * count}, *kernels_.memory);
  for (std::size_t c = first; c < first + count; ++c) {
    const std::size_t begin = c * chunk, end = begin + chunk, cut = std::clamp(shared, begin, end);
    kernels_.sum_squares(stream_, {gradients.subspan(begin, cut - begin), &sums[2 * (c - first)]});
    kernels_.sum_squares(stream_, {gradients.subspan(cut, end - cut), &sums[2 * (c - first) + 1]});
  }
  squares_.finish();
  std::vector<Squares> all(slots * static_cast<std::size_t>(data_.size()));
  data_.all_gather(mine.data(), mine.size() * sizeof(Squares), all.data());
  Squares total;
  for (std::size_t c = 0; c < slots; ++c)
    for (std::size_t r = 0; r < static_cast<std::size_t>(data_.size()); ++r) {  // all but the owner's are 0
      total.shared += all[r * slots + c].shared;
      total.divided += all[r * slots + c].divided;
    }
  double divided[] = {total.divided};
  tensor_.all_reduce_sum(std::span<double>(divided));
  return std::sqrt(total.shared + divided[0]);
}

void Optimizer::step(std::span<float> gradients, std::int64_t step, double lr, double grad_scale) {
  for (const OwnedPiece& piece : pieces_) {
    const Parameter& p = *piece.where.parameter;
    if (!p.trainable) continue;
    if (by_muon(p)) add_momentum(piece, gradients, grad_scale);
    else move_by_adamw(piece, gradients, step, lr, grad_scale);
  }
  if (muon_) {
    const profile::Scope scope("orthogonalize");
    for (const Matrix<float>& matrix : muon_->matrices.gather(gradients)) muon_->orthogonalizer.apply(matrix);
    muon_->matrices.scatter(gradients);
    for (const OwnedPiece& piece : pieces_)
      if (piece.where.parameter->trainable && by_muon(*piece.where.parameter)) move_along(piece, gradients, lr);
  }
  data_.in(kernels_).all_gather_owned(parameters_.values());
  // The compute copy of what this rank owns was written with the weights; the others' parts follow.
  const std::size_t end = owned_.first + owned_.count;
  parameters_.refresh(kernels_, stream_, 0, owned_.first);
  parameters_.refresh(kernels_, stream_, end, parameters_.values().size() - end);
}

void Optimizer::move_by_adamw(const OwnedPiece& piece, std::span<const float> gradients, std::int64_t step, double lr,
                              double grad_scale) {
  const ParameterGroup& group = piece.where.parameter->group;
  const auto t = static_cast<double>(step + 1);
  kernels_.adamw(stream_, {.w = parameters_.values().subspan(piece.where.first, piece.where.count),
                           .g = gradients.subspan(piece.where.first, piece.where.count),
                           .m = piece.moments[0].values,
                           .v = piece.moments[1].values,
                           .lr = group.rate_factor * static_cast<float>(lr),
                           .beta1 = static_cast<float>(config_.beta1),
                           .beta2 = static_cast<float>(config_.beta2),
                           .eps = static_cast<float>(config_.eps),
                           .decay = group.decay ? static_cast<float>(config_.weight_decay) : 0.0f,
                           .correction1 = static_cast<float>(1.0 - std::pow(config_.beta1, t)),
                           .correction2 = static_cast<float>(1.0 - std::pow(config_.beta2, t)),
                           .grad_scale = static_cast<float>(grad_scale),
                           .w_bf16 = parameters_.compute_copy(piece.where.first, piece.where.count)});
}

/// `g = g + m` with `m = momentum (m + g)`: Nesterov's look ahead, in place of the gradient.
void Optimizer::add_momentum(const OwnedPiece& piece, std::span<float> gradients, double grad_scale) {
  const std::span<float> g = gradients.subspan(piece.where.first, piece.where.count), m = piece.moments[0].values;
  if (grad_scale != 1) kernels_.scale(stream_, {g, static_cast<float>(grad_scale)});
  kernels_.add(stream_, {g, m});
  kernels_.scale(stream_, {m, static_cast<float>(config_.momentum)});
  kernels_.add(stream_, {m, g});
}

/// `w = (1 - lr decay) w - lr 0.2 sqrt(max(rows, cols)) direction`. Three passes where a fused op would need one: less
/// than a hundredth of what the products of orthogonalization take.
void Optimizer::move_along(const OwnedPiece& piece, std::span<float> directions, double lr) {
  const Parameter& p = *piece.where.parameter;
  const std::span<float> w = parameters_.values().subspan(piece.where.first, piece.where.count),
                         direction = directions.subspan(piece.where.first, piece.where.count);
  const double rate = lr * p.group.rate_factor, size = kMuonSize * std::sqrt(std::max(p.rows, p.cols));
  if (p.group.decay) kernels_.scale(stream_, {w, static_cast<float>(1 - rate * config_.weight_decay)});
  kernels_.scale(stream_, {direction, static_cast<float>(-rate * size)});
  kernels_.add(stream_, {direction, w});
  parameters_.refresh(kernels_, stream_, piece.where.first, piece.where.count);
}

}  // namespace slipway
