#include "src/train/gradient_tree.hpp"

#include <algorithm>

#include "src/core/taken_for.hpp"

namespace slipway {

void GradientTree::close_slot() {
  const TakenFor taken("the gradients of slots");
  ++closed_;
  if (slots_ == 1) return;  // the parameters' own gradient is the sum
  if (partials_.empty() || partials_.back().level > 0) {
    Buffer<float> fresh =
        spare_.empty() ? Buffer<float>(parameters_.values().size(), parameters_.space()) : std::move(spare_.back());
    if (!spare_.empty()) spare_.pop_back();
    partials_.push_back({0, parameters_.take_gradients(std::move(fresh))});
    return;
  }
  kernels_.add(stream_, {parameters_.gradients(), partials_.back().sum.span()});
  parameters_.zero_gradients();
  ++partials_.back().level;
  while (partials_.size() > 1 && partials_[partials_.size() - 2].level == partials_.back().level) {
    Partial right = std::move(partials_.back());
    partials_.pop_back();
    kernels_.add(stream_, {right.sum.span(), partials_.back().sum.span()});
    spare_.push_back(std::move(right.sum));
    ++partials_.back().level;
  }
}

std::span<float> GradientTree::local() {
  require(closed_ == slots_, "GradientTree: the slots of this rank are not all joined");
  return slots_ == 1 ? parameters_.gradients() : partials_.front().sum.span();
}

void GradientTree::find_bad(std::int64_t* found) { kernels_.first_non_finite(stream_, {local(), found}); }

std::span<float> GradientTree::join(Group& tensor, Group& data, Group::Range& owned) {
  const std::span<float> sum = local();
  owned = data.in(kernels_).reduce_scatter_sum(sum);
  if (tensor.size() == 1) return sum;
  // Of what every tensor rank holds whole, each has the gradient of its rows or heads alone. Joined only now, or the
  // order of sums would depend on the data ranks.
  const std::size_t end = std::min(parameters_.shared_size(), owned.first + owned.count);
  if (owned.first < end) tensor.in(kernels_).all_reduce_sum(sum.subspan(owned.first, end - owned.first));
  return sum;
}

void GradientTree::reset() {
  if (slots_ == 1) parameters_.zero_gradients();
  for (Partial& partial : partials_) spare_.push_back(std::move(partial.sum));
  partials_.clear();
  closed_ = 0;
}

}  // namespace slipway
