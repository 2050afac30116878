#include "src/optim/optimizer.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "src/core/allocation_tag.hpp"
#include "src/core/profile.hpp"

namespace slipway {
namespace {

// Root mean square of an update's elements at rate 1: AdamW's lies between 0.2 and 0.4 in practice (Liu et al., 2025).
constexpr double kMuonUpdateRms = 0.2;

}  // namespace

Optimizer::Optimizer(const OptimConfig& config, Parameters& parameters, const Backend& backend, Mesh& mesh,
                     const ArenaShards& shards, MemorySpace& moments_space)
    : config_(config),
      parameters_(parameters),
      backend_(backend),
      data_(*mesh.data),
      arena_(shards),
      owned_(shards.trainable(mesh.data->rank())) {
  const AllocationTag tag(MemoryKind::kOptimizerState, "the optimizer's moments");
  if (config.is_muon()) muon_.emplace(Muon{{parameters, backend, mesh, shards}, {backend, parameters.compute_dtype()}});
  for (const Group::Range& range : owned_)
    for (const ParameterSlice& slice : parameters.slices(range.first, range.count)) shards_.push_back({slice, {}});
  // Aligned like the arena, so that kernels use the same vector instructions, and round in the same way, on any number
  // of ranks.
  std::size_t first_size = 0, second_size = 0;
  for (const OptimizerShard& shard : shards_) {
    const std::size_t size = Parameters::padded_size(shard.slice.count);
    first_size += size;
    if (!uses_muon(*shard.slice.parameter)) second_size += size;
  }
  first_moments_ = Buffer<float>(first_size, moments_space);
  second_moments_ = Buffer<float>(second_size, moments_space);
  first_size = second_size = 0;
  for (auto& [slice, shard_moments] : shards_) {
    const std::size_t size = Parameters::padded_size(slice.count);
    const std::span<float> first =
        first_moments_.span().subspan(std::exchange(first_size, first_size + size), slice.count);
    if (uses_muon(*slice.parameter)) {
      shard_moments = {{"muon_m", first}};
      continue;
    }
    const std::span<float> second =
        second_moments_.span().subspan(std::exchange(second_size, second_size + size), slice.count);
    shard_moments = {{"adam_m", first}, {"adam_v", second}};
  }
}

void Optimizer::sum_squares(std::span<const float> gradients, double* squares) {
  const std::size_t chunk = gradients.size() / static_cast<std::size_t>(parameters_.slots()),
                    replicated_size = parameters_.replicated_size();
  for (const auto& [first, count] : owned_)
    for (std::size_t begin = first; begin < first + count; begin += chunk) {
      const std::size_t end = begin + chunk, replicated_end = std::clamp(replicated_size, begin, end),
                        c = begin / chunk;
      backend_.sum_squares(stream_, {gradients.subspan(begin, replicated_end - begin), &squares[2 * c]});
      backend_.sum_squares(stream_, {gradients.subspan(replicated_end, end - replicated_end), &squares[2 * c + 1]});
    }
}

void Optimizer::step(std::span<float> gradients, std::int64_t step, double lr, const float* grad_scale) {
  for (const OptimizerShard& shard : shards_) {
    if (uses_muon(*shard.slice.parameter)) add_momentum(shard, gradients, grad_scale);
    else adamw_step(shard, gradients, step, lr, grad_scale);
  }
  if (muon_) {
    const profile::Scope scope("orthogonalize");
    for (const Matrix<float>& matrix : muon_->matrices.gather(gradients)) muon_->newton_schulz.apply(matrix);
    muon_->matrices.scatter(gradients);
    for (const OptimizerShard& shard : shards_)
      if (uses_muon(*shard.slice.parameter)) muon_step(shard, gradients, lr, grad_scale);
  }
}

void Optimizer::all_gather_weights() {
  Group& data = data_.for_backend(backend_);
  const std::span<float> values = parameters_.values();
  for (const auto& [first, count] : arena_.buckets()) {
    const std::span<Bf16> copy = parameters_.compute_copy(first, count);
    if (copy.empty()) data.all_gather_shards(values.subspan(first, count));
    else data.all_gather_shards(copy);
  }
  if (parameters_.compute_dtype() == DType::kF32) return;
  for (const auto& [first, end] : parameters_.f32_ranges())
    for (int rank = 0; rank < data.size(); ++rank)
      for (const Group::Range& owned : arena_.trainable(rank)) {
        const std::size_t from = std::max(first, owned.first), to = std::min(end, owned.first + owned.count);
        if (from < to) data.broadcast(&values[from], (to - from) * sizeof(float), rank);
      }
}

void Optimizer::adamw_step(const OptimizerShard& shard, std::span<const float> gradients, std::int64_t step, double lr,
                           const float* grad_scale) {
  const ParameterGroup& group = shard.slice.parameter->group;
  const auto t = static_cast<double>(step + 1);
  backend_.adamw(stream_, {.w = parameters_.values().subspan(shard.slice.first, shard.slice.count),
                           .g = gradients.subspan(shard.slice.first, shard.slice.count),
                           .m = shard.moments[0].values,
                           .v = shard.moments[1].values,
                           .lr = group.lr_scale * static_cast<float>(lr),
                           .beta1 = static_cast<float>(config_.beta1),
                           .beta2 = static_cast<float>(config_.beta2),
                           .eps = static_cast<float>(config_.eps),
                           .weight_decay = group.use_weight_decay ? static_cast<float>(config_.weight_decay) : 0.0f,
                           .bias_correction1 = static_cast<float>(1.0 - std::pow(config_.beta1, t)),
                           .bias_correction2 = static_cast<float>(1.0 - std::pow(config_.beta2, t)),
                           .grad_scale = grad_scale,
                           .w_bf16 = parameters_.compute_copy(shard.slice.first, shard.slice.count)});
}

void Optimizer::add_momentum(const OptimizerShard& shard, std::span<float> gradients, const float* grad_scale) {
  backend_.muon_momentum(stream_, {.g = gradients.subspan(shard.slice.first, shard.slice.count),
                                   .m = shard.moments[0].values,
                                   .momentum = static_cast<float>(config_.momentum),
                                   .grad_scale = grad_scale});
}

/// `w = (1 - lr weight_decay) w - lr 0.2 sqrt(max(rows, cols)) direction`.
void Optimizer::muon_step(const OptimizerShard& shard, std::span<const float> directions, double lr,
                          const float* grad_scale) {
  const Parameter& p = *shard.slice.parameter;
  const double rate = lr * p.group.lr_scale, update_rms = kMuonUpdateRms * std::sqrt(std::max(p.rows, p.cols));
  backend_.muon_update(
      stream_, {.w = parameters_.values().subspan(shard.slice.first, shard.slice.count),
                .direction = directions.subspan(shard.slice.first, shard.slice.count),
                .decay_factor = static_cast<float>(p.group.use_weight_decay ? 1 - rate * config_.weight_decay : 1.0),
                .rate = static_cast<float>(rate * update_rms),
                .grad_scale = grad_scale,
                .w_bf16 = parameters_.compute_copy(shard.slice.first, shard.slice.count)});
}

}  // namespace slipway
