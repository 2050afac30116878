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
                     const ArenaShards& shards, MemorySpace& moments)
    : config_(config),
      parameters_(parameters),
      backend_(backend),
      data_(*mesh.data),
      arena_(shards),
      owned_(shards.trainable(mesh.data->rank())) {
  const AllocationTag taken(MemoryKind::kOptimizerState, "the optimizer's moments");
  if (config.is_muon()) muon_.emplace(Muon{{parameters, backend, mesh, shards}, {backend, parameters.compute_dtype()}});
  for (const Group::Range& range : owned_)
    for (const ParameterSlice& piece : parameters.pieces(range.first, range.count)) shards_.push_back({piece, {}});
  // Aligned like the arena, so that kernels use the same vector instructions, and round in the same way, on any number
  // of ranks.
  std::size_t firsts = 0, seconds = 0;
  for (const OptimizerShard& shard : shards_) {
    const std::size_t size = Parameters::padded_size(shard.where.count);
    firsts += size;
    if (!uses_muon(*shard.where.parameter)) seconds += size;
  }
  first_moments_ = Buffer<float>(firsts, moments);
  second_moments_ = Buffer<float>(seconds, moments);
  firsts = seconds = 0;
  for (auto& [where, its_moments] : shards_) {
    const std::size_t size = Parameters::padded_size(where.count);
    const std::span<float> first = first_moments_.span().subspan(std::exchange(firsts, firsts + size), where.count);
    if (uses_muon(*where.parameter)) {
      its_moments = {{"muon_m", first}};
      continue;
    }
    const std::span<float> second = second_moments_.span().subspan(std::exchange(seconds, seconds + size), where.count);
    its_moments = {{"adam_m", first}, {"adam_v", second}};
  }
}

void Optimizer::sum_squares(std::span<const float> gradients, double* squares) {
  const std::size_t chunk = gradients.size() / static_cast<std::size_t>(parameters_.slots()),
                    shared = parameters_.shared_size();
  for (const auto& [first, count] : owned_)
    for (std::size_t begin = first; begin < first + count; begin += chunk) {
      const std::size_t end = begin + chunk, cut = std::clamp(shared, begin, end), c = begin / chunk;
      backend_.sum_squares(stream_, {gradients.subspan(begin, cut - begin), &squares[2 * c]});
      backend_.sum_squares(stream_, {gradients.subspan(cut, end - cut), &squares[2 * c + 1]});
    }
}

void Optimizer::step(std::span<float> gradients, std::int64_t step, double lr, const float* factor) {
  for (const OptimizerShard& piece : shards_) {
    if (uses_muon(*piece.where.parameter)) add_momentum(piece, gradients, factor);
    else adamw_step(piece, gradients, step, lr, factor);
  }
  if (muon_) {
    const profile::Scope scope("orthogonalize");
    for (const Matrix<float>& matrix : muon_->matrices.gather(gradients)) muon_->newton_schulz.apply(matrix);
    muon_->matrices.scatter(gradients);
    for (const OptimizerShard& piece : shards_)
      if (uses_muon(*piece.where.parameter)) muon_step(piece, gradients, lr, factor);
  }
}

void Optimizer::all_gather_weights() {
  Group& data = data_.on(backend_);
  const std::span<float> values = parameters_.values();
  for (const auto& [first, count] : arena_.buckets()) {
    const std::span<Bf16> copy = parameters_.compute_copy(first, count);
    if (copy.empty()) data.all_gather_shards(values.subspan(first, count));
    else data.all_gather_shards(copy);
  }
  if (parameters_.compute_dtype() == DType::kF32) return;
  for (const auto& [first, end] : parameters_.keep_f32())
    for (int rank = 0; rank < data.size(); ++rank)
      for (const Group::Range& owned : arena_.trainable(rank)) {
        const std::size_t from = std::max(first, owned.first), to = std::min(end, owned.first + owned.count);
        if (from < to) data.broadcast(&values[from], (to - from) * sizeof(float), rank);
      }
}

void Optimizer::adamw_step(const OptimizerShard& piece, std::span<const float> gradients, std::int64_t step, double lr,
                           const float* factor) {
  const ParameterGroup& group = piece.where.parameter->group;
  const auto t = static_cast<double>(step + 1);
  backend_.adamw(stream_, {.w = parameters_.values().subspan(piece.where.first, piece.where.count),
                           .g = gradients.subspan(piece.where.first, piece.where.count),
                           .m = piece.moments[0].values,
                           .v = piece.moments[1].values,
                           .lr = group.lr_scale * static_cast<float>(lr),
                           .beta1 = static_cast<float>(config_.beta1),
                           .beta2 = static_cast<float>(config_.beta2),
                           .eps = static_cast<float>(config_.eps),
                           .decay = group.decay ? static_cast<float>(config_.weight_decay) : 0.0f,
                           .correction1 = static_cast<float>(1.0 - std::pow(config_.beta1, t)),
                           .correction2 = static_cast<float>(1.0 - std::pow(config_.beta2, t)),
                           .grad_scale = factor,
                           .w_bf16 = parameters_.compute_copy(piece.where.first, piece.where.count)});
}

void Optimizer::add_momentum(const OptimizerShard& piece, std::span<float> gradients, const float* factor) {
  backend_.muon_momentum(stream_, {.g = gradients.subspan(piece.where.first, piece.where.count),
                                   .m = piece.moments[0].values,
                                   .momentum = static_cast<float>(config_.momentum),
                                   .grad_scale = factor});
}

/// `w = (1 - lr decay) w - lr 0.2 sqrt(max(rows, cols)) direction`.
void Optimizer::muon_step(const OptimizerShard& piece, std::span<const float> directions, double lr,
                          const float* factor) {
  const Parameter& p = *piece.where.parameter;
  const double rate = lr * p.group.lr_scale, size = kMuonUpdateRms * std::sqrt(std::max(p.rows, p.cols));
  backend_.muon_update(stream_,
                       {.w = parameters_.values().subspan(piece.where.first, piece.where.count),
                        .direction = directions.subspan(piece.where.first, piece.where.count),
                        .decay_factor = static_cast<float>(p.group.decay ? 1 - rate * config_.weight_decay : 1.0),
                        .rate = static_cast<float>(rate * size),
                        .grad_scale = factor,
                        .w_bf16 = parameters_.compute_copy(piece.where.first, piece.where.count)});
}

}  // namespace slipway
