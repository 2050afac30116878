#include "src/optim/gradient_accumulator.hpp"

#include <algorithm>

#include "src/core/allocation_tag.hpp"

namespace slipway {

void GradientAccumulator::finish_slot() {
  const AllocationTag tag(MemoryKind::kSlotPartials, "the gradients of slots");
  ++finished_slots_;
  if (slots_ == 1) return;  // the parameters' own gradient is the sum
  if (partials_.empty() || partials_.back().level > 0) {
    Buffer<float> next_gradients = free_buffers_.empty()
                                       ? Buffer<float>(parameters_.trainable_size(), parameters_.space())
                                       : std::move(free_buffers_.back());
    if (!free_buffers_.empty()) free_buffers_.pop_back();
    partials_.push_back({0, parameters_.take_gradients(std::move(next_gradients))});
    return;
  }
  backend_.add(stream_, {parameters_.gradients(), partials_.back().sum.span()});
  parameters_.zero_gradients();
  ++partials_.back().level;
  while (partials_.size() > 1 && partials_[partials_.size() - 2].level == partials_.back().level) {
    Partial right = std::move(partials_.back());
    partials_.pop_back();
    backend_.add(stream_, {right.sum.span(), partials_.back().sum.span()});
    free_buffers_.push_back(std::move(right.sum));
    ++partials_.back().level;
  }
}

std::span<float> GradientAccumulator::local_sum() {
  require(finished_slots_ == slots_, "GradientAccumulator: not all slots of this rank are finished");
  return slots_ == 1 ? parameters_.gradients() : partials_.front().sum.span();
}

void GradientAccumulator::check_finite(std::int64_t* first_index) {
  backend_.first_non_finite(stream_, {local_sum(), first_index});
}

std::span<float> GradientAccumulator::reduce_scatter(Mesh& mesh, const ArenaShards& shards) {
  Group &data = mesh.data->for_backend(backend_), &tensor = mesh.tensor->for_backend(backend_);
  const std::span<float> sum = local_sum();
  for (const auto& [first, count] : shards.buckets()) data.reduce_scatter_sum(sum.subspan(first, count));
  if (tensor.size() == 1) return sum;
  // For replicated parameters each tensor rank has the gradient from its own rows or heads only. They are reduced after
  // the data ranks, so that the order of sums does not depend on the number of data ranks.
  for (const auto& [first, count] : shards.trainable(data.rank())) {
    const std::size_t end = std::min(parameters_.replicated_size(), first + count);
    if (first < end) tensor.all_reduce_sum(sum.subspan(first, end - first));
  }
  return sum;
}

void GradientAccumulator::zero() {
  if (slots_ == 1) parameters_.zero_gradients();
  for (Partial& partial : partials_) free_buffers_.push_back(std::move(partial.sum));
  partials_.clear();
  finished_slots_ = 0;
}

}  // namespace slipway
