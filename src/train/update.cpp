#include "src/train/update.hpp"

namespace slipway {

Update::Update(const RunConfig& config, Parameters& parameters, const KernelTable& kernels, Mesh& mesh,
               const SlotPlan& slots)
    : kernels_(kernels),
      mesh_(mesh),
      max_norm_(config.optim.max_grad_norm),
      slots_(parameters.slots()),
      gradients_(parameters, kernels, slots.slots_per_rank()),
      optimizer_(config.optim, parameters, kernels, mesh,
                 config.layout.offload ? kernels.memory->staging() : *kernels.memory),
      findings_(slots.micro_batches, *kernels.memory),
      my_nats_(static_cast<std::size_t>(slots.slots_per_rank() * slots.micro_batches_per_slot()), *kernels.memory) {
  const auto chunks = 2 * static_cast<std::size_t>(slots_), data = static_cast<std::size_t>(mesh.data->size());
  squares_ = Buffer<double>(chunks, *kernels.memory);
  squares_of_data_ = Buffer<double>(chunks * data, *kernels.memory);
  squares_of_all_ =
      Buffer<double>(squares_of_data_.size() * static_cast<std::size_t>(mesh.tensor->size()), *kernels.memory);
}

void Update::join() {
  Group::Range owned;
  joined_ = gradients_.join(*mesh_.tensor, *mesh_.data, owned);
}

void Update::find_factor() {
  const auto bytes_of = [](const Buffer<double>& numbers) { return numbers.size() * sizeof(double); };
  Group &data = mesh_.data->in(kernels_), &tensor = mesh_.tensor->in(kernels_);
  data.all_gather(my_nats_.data(), bytes_of(my_nats_), findings_.nats().data());
  squares_.zero();
  optimizer_.sum_squares(joined_, squares_.data());
  data.all_gather(squares_.data(), bytes_of(squares_), squares_of_data_.data());
  tensor.all_gather(squares_of_data_.data(), bytes_of(squares_of_data_), squares_of_all_.data());
  kernels_.step_factor(stream_, {.nats = findings_.nats(),
                                 .squares = squares_of_all_.data(),
                                 .tensor_ranks = tensor.size(),
                                 .data_ranks = data.size(),
                                 .slots = slots_,
                                 .max_norm = max_norm_,
                                 .norm = findings_.norm(),
                                 .factor = findings_.running_factor(),
                                 .applied = findings_.factor()});
}

void Update::move(std::int64_t step, double lr) {
  find_factor();
  optimizer_.step(joined_, step, lr, findings_.running_factor());
  gradients_.reset();
  findings_.send();
}

}  // namespace slipway
