#include "src/optim/step_update.hpp"

namespace slipway {

StepUpdate::StepUpdate(const OptimConfig& config, Parameters& parameters, const Backend& backend, Mesh& mesh,
                       const ReductionSlots& slots, bool offload)
    : backend_(backend),
      mesh_(mesh),
      max_norm_(config.max_grad_norm),
      slots_(parameters.slots()),
      shards_(parameters, mesh.data->size()),
      gradients_(parameters, backend, slots.slots_per_rank()),
      optimizer_(config, parameters, backend, mesh, shards_, offload ? backend.memory->staging() : *backend.memory),
      stats_(slots.micro_batches, *backend.memory),
      local_loss_sums_(static_cast<std::size_t>(slots.slots_per_rank() * slots.micro_batches_per_slot()),
                       *backend.memory) {
  const auto chunks = 2 * static_cast<std::size_t>(slots_), data = static_cast<std::size_t>(mesh.data->size());
  squares_ = Buffer<double>(chunks, *backend.memory);
  data_group_squares_ = Buffer<double>(chunks * data, *backend.memory);
  world_squares_ =
      Buffer<double>(data_group_squares_.size() * static_cast<std::size_t>(mesh.tensor->size()), *backend.memory);
}

void StepUpdate::reduce_gradients() { reduced_gradient_ = gradients_.reduce_scatter(mesh_, shards_); }

void StepUpdate::clip() {
  const auto bytes_of = [](const Buffer<double>& numbers) { return numbers.size() * sizeof(double); };
  Group &data = mesh_.data->for_backend(backend_), &tensor = mesh_.tensor->for_backend(backend_);
  data.all_gather(local_loss_sums_.data(), bytes_of(local_loss_sums_), stats_.loss_sums().data());
  squares_.zero();
  optimizer_.sum_squares(reduced_gradient_, squares_.data());
  data.all_gather(squares_.data(), bytes_of(squares_), data_group_squares_.data());
  tensor.all_gather(data_group_squares_.data(), bytes_of(data_group_squares_), world_squares_.data());
  backend_.clip_coef(stream_, {.losses = stats_.loss_sums(),
                               .squares = world_squares_.data(),
                               .tensor_parallel_size = tensor.size(),
                               .data_parallel_size = data.size(),
                               .slots = slots_,
                               .max_norm = max_norm_,
                               .norm = stats_.grad_norm(),
                               .factor = stats_.sticky_clip_coef(),
                               .reported_factor = stats_.clip_coef()});
}

void StepUpdate::step(std::int64_t step, double lr) {
  optimizer_.step(reduced_gradient_, step, lr, stats_.sticky_clip_coef());
}

void StepUpdate::apply(std::int64_t step, double lr) {
  clip();
  this->step(step, lr);
  all_gather_weights();
  zero_gradients();
  copy_stats_to_host_async();
}

}  // namespace slipway
