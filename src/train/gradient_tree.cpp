#include "src/train/gradient_tree.hpp"

namespace slipway {

void GradientTree::close_slot() {
  Buffer<float> fresh;
  if (spare_.empty()) {
    fresh = Buffer<float>(parameters_.values().size());
  } else {
    fresh = std::move(spare_.back());
    spare_.pop_back();
  }
  Partial slot{0, parameters_.take_gradients(std::move(fresh))};
  while (!partials_.empty() && partials_.back().level == slot.level) {
    Partial left = std::move(partials_.back());
    partials_.pop_back();
    kernels_.add(stream_, {slot.sum.span(), left.sum.span()});
    spare_.push_back(std::move(slot.sum));
    slot = {left.level + 1, std::move(left.sum)};
  }
  partials_.push_back(std::move(slot));
}

std::span<float> GradientTree::local() {
  require(partials_.size() == 1, "GradientTree: the slots of this rank are not all joined");
  return partials_.front().sum.span();
}

std::span<float> GradientTree::join(Group& tensor, Group& data, Group::Range& owned) {
  const std::span<float> sum = local();
  if (tensor.size() > 1)
    for (const Parameter& p : parameters_.all())
      if (p.partial_gradient) tensor.all_reduce_sum(sum.subspan(p.offset, p.local_size()));
  owned = data.reduce_scatter_sum(sum);
  return sum;
}

void GradientTree::reset() {
  for (Partial& partial : partials_) spare_.push_back(std::move(partial.sum));
  partials_.clear();
}

}  // namespace slipway
