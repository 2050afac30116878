#include "src/train/optimizer.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace slipway {

Optimizer::Optimizer(const OptimConfig& config, Parameters& parameters, const KernelTable& kernels, Group& data)
    : config_(config),
      parameters_(parameters),
      kernels_(kernels),
      data_(data),
      owned_(Group::owned_range(parameters.values().size(), data.rank(), data.size())),
      m_(owned_.count),
      v_(owned_.count) {}

double Optimizer::norm(std::span<const float> gradients, Group& tensor) {
  const auto slots = static_cast<std::size_t>(parameters_.slots());
  const std::size_t chunk = gradients.size() / slots, shared = parameters_.shared_size();
  // Tensor ranks hold [0, shared) alike and the rest apart: the first counts once, the second adds up.
  struct Squares {
    double shared = 0, divided = 0;
  };
  std::vector<Squares> mine(slots);
  for (std::size_t c = owned_.first / chunk; c < (owned_.first + owned_.count) / chunk; ++c) {
    const std::size_t begin = c * chunk, end = begin + chunk, cut = std::clamp(shared, begin, end);
    kernels_.sum_squares(stream_, {gradients.subspan(begin, cut - begin), &mine[c].shared});
    kernels_.sum_squares(stream_, {gradients.subspan(cut, end - cut), &mine[c].divided});
  }
  std::vector<Squares> all(slots * static_cast<std::size_t>(data_.size()));
  data_.all_gather(mine.data(), mine.size() * sizeof(Squares), all.data());
  Squares total;
  for (std::size_t c = 0; c < slots; ++c)
    for (std::size_t r = 0; r < static_cast<std::size_t>(data_.size()); ++r) {  // all but the owner's are 0
      total.shared += all[r * slots + c].shared;
      total.divided += all[r * slots + c].divided;
    }
  double divided[] = {total.divided};
  tensor.all_reduce_sum(std::span<double>(divided));
  return std::sqrt(total.shared + divided[0]);
}

void Optimizer::step(std::span<const float> gradients, std::int64_t step, double lr, double grad_scale) {
  const auto t = static_cast<double>(step + 1);
  for (const ArenaPiece& piece : parameters_.pieces(owned_.first, owned_.count)) {
    const Parameter& p = *piece.parameter;
    if (!p.trainable) continue;
    const std::size_t at = piece.first - owned_.first;
    kernels_.adamw(stream_, {.w = parameters_.values().subspan(piece.first, piece.count),
                             .g = gradients.subspan(piece.first, piece.count),
                             .m = m_.span().subspan(at, piece.count),
                             .v = v_.span().subspan(at, piece.count),
                             .lr = p.group.rate_factor * static_cast<float>(lr),
                             .beta1 = static_cast<float>(config_.beta1),
                             .beta2 = static_cast<float>(config_.beta2),
                             .eps = static_cast<float>(config_.eps),
                             .decay = p.group.decay ? static_cast<float>(config_.weight_decay) : 0.0f,
                             .correction1 = static_cast<float>(1.0 - std::pow(config_.beta1, t)),
                             .correction2 = static_cast<float>(1.0 - std::pow(config_.beta2, t)),
                             .grad_scale = static_cast<float>(grad_scale)});
  }
  data_.all_gather_owned(parameters_.values());
  parameters_.refresh(kernels_, stream_);
}

}  // namespace slipway
