#include "src/plan/plan.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <span>
#include <vector>

#include "src/model/model_layers.hpp"
#include "src/model/model_tensors.hpp"
#include "src/model/sequence_parallel.hpp"
#include "src/model/tensor_parallel_shard.hpp"
#include "src/optim/matrix_redistribution.hpp"
#include "src/optim/newton_schulz.hpp"
#include "src/optim/reduction_slots.hpp"
#include "src/plan/dry_run.hpp"

namespace slipway {
namespace {

// Beyond these a dry run would take seconds. Powers of two, so that half of each is one too.
constexpr int kMaxLayers = 256, kMaxTokens = 1 << 14, kMaxSlots = 1 << 10;
constexpr double kMaxBytes = 0x1p59;  // keys may ask for more than 64 bits count; a sum of several fits

constexpr std::array kMembers = {&MemoryPlan::weights,       &MemoryPlan::compute_copy, &MemoryPlan::gradients,
                                 &MemoryPlan::slot_partials, &MemoryPlan::moments,      &MemoryPlan::orthogonalization,
                                 &MemoryPlan::activations,   &MemoryPlan::logits,       &MemoryPlan::other};

MemoryPlan make_memory_plan(const DryRun& run) {
  using enum MemoryKind;
  const BytesByKind& bytes = run.memory;
  const std::uint64_t offloaded = run.staging[kOptimizerState];
  MemoryPlan plan{.weights = bytes[kWeights],
                  .compute_copy = bytes[kComputeCopy],
                  .gradients = bytes[kGradients],
                  .slot_partials = bytes[kSlotPartials],
                  .moments = bytes[kOptimizerState] + offloaded,
                  .orthogonalization = bytes[kOrthogonalization],
                  .activations = bytes[kActivations],
                  .logits = bytes[kLogits],
                  .staging = run.checkpoint_bytes};
  plan.other = bytes.total() + offloaded - plan.total();
  return plan;
}

/// What comes `steps` times the way from `half` to `full` beyond `full`.
RankPlan extrapolate(const RankPlan& half, const RankPlan& full, double steps) {
  const auto extrapolate_value = [&](double a, double b) { return std::clamp(b + (b - a) * steps, 0.0, kMaxBytes); };
  RankPlan result{.data_parallel_bytes = extrapolate_value(half.data_parallel_bytes, full.data_parallel_bytes),
                  .micro_batch_tensor_parallel_bytes = extrapolate_value(half.micro_batch_tensor_parallel_bytes,
                                                                         full.micro_batch_tensor_parallel_bytes)};
  const auto extrapolate_member = [&](std::uint64_t MemoryPlan::*member) {
    result.memory.*member = static_cast<std::uint64_t>(
        extrapolate_value(static_cast<double>(half.memory.*member), static_cast<double>(full.memory.*member)));
  };
  for (const auto member : kMembers) extrapolate_member(member);
  extrapolate_member(&MemoryPlan::staging);
  return result;
}

std::int64_t tokens_of(const RunConfig& config) {
  return std::int64_t{config.train.micro_batch} * config.train.sequence;
}

/// As many micro-batches, each of one sequence; one token shorter where tensor ranks cannot divide the rows.
RunConfig with_tokens(RunConfig config, int tokens) {
  const bool divides = SequenceParallel::local_rows_of(tokens_of(config), config.parallel.tensor) < tokens_of(config);
  config.train.batch /= config.train.micro_batch;
  config.train.micro_batch = 1;
  config.train.sequence = divides || config.parallel.tensor == 1 ? tokens : tokens - 1;
  return config;
}

RunConfig with_slots(RunConfig config, int slots) {
  config.numerics.slots = slots;
  return config;
}

/// Rank 0's parameters, declared and not allocated.
Parameters declare_parameters(const ModelSpec& model, const TensorParallelShard& shard) {
  Parameters parameters;
  const ModelLayers layers(model, shard, parameters);
  return parameters;
}

/// What Muon asks of the busiest rank, and what a rank sends for it.
void add_muon(RunPlan& plan, std::span<const Parameter> parameters, int data_parallel_size, int tensor_parallel_size) {
  const int ranks = data_parallel_size * tensor_parallel_size;
  const std::vector<int> owners = assign_matrices(parameters, ranks);
  std::vector<double> flops(static_cast<std::size_t>(ranks), 0.0);
  std::uint64_t local = 0;
  for (std::size_t i = 0; i < owners.size(); ++i) {
    if (owners[i] < 0) continue;
    const Parameter& p = parameters[i];
    flops[static_cast<std::size_t>(owners[i])] += orthogonal_flops(p.rows, p.cols);
    local += p.local_size();
  }
  plan.step_orthogonalization_flops = *std::ranges::max_element(flops);
  const double R = data_parallel_size, T = tensor_parallel_size;
  plan.orthogonalization_bytes =
      static_cast<std::uint64_t>(2 * 4 * static_cast<double>(local) * ((R - 1) / (R * R) + (T - 1) / (R * T)));
}

}  // namespace

std::uint64_t MemoryPlan::total() const {
  std::uint64_t sum = 0;
  for (const auto member : kMembers) sum += this->*member;
  return sum;
}

RankPlan plan_rank(const RunConfig& config, const ModelSpec& model, int data_parallel_size) {
  const auto plan = [&](const RunConfig& other) { return plan_rank(other, model, data_parallel_size); };
  if (model.layers > kMaxLayers) {
    ModelSpec half = model, full = model;
    half.layers = kMaxLayers / 2, full.layers = kMaxLayers;
    return extrapolate(plan_rank(config, half, data_parallel_size), plan_rank(config, full, data_parallel_size),
                       (model.layers - full.layers) / static_cast<double>(full.layers - half.layers));
  }
  if (tokens_of(config) > kMaxTokens) {
    const RunConfig half = with_tokens(config, kMaxTokens / 2), full = with_tokens(config, kMaxTokens);
    return extrapolate(plan(half), plan(full),
                       static_cast<double>(tokens_of(config) - tokens_of(full)) /
                           static_cast<double>(tokens_of(full) - tokens_of(half)));
  }
  const auto slots_of = [&](const RunConfig& c) {
    return ReductionSlots::make(c.train.batch, c.train.micro_batch, c.numerics.slots, data_parallel_size).slots;
  };
  const int slots = slots_of(config);  // no fewer than data ranks
  const std::int64_t most_slots = std::int64_t{kMaxSlots} * std::bit_ceil(static_cast<unsigned>(data_parallel_size));
  if (config.numerics.slots > most_slots) {  // partial gradients grow with the logarithm of those that there are
    const RunConfig full = with_slots(config, static_cast<int>(most_slots));
    return extrapolate(plan(with_slots(full, full.numerics.slots / 2)), plan(full),
                       std::log2(static_cast<double>(slots) / slots_of(full)));
  }
  const DryRun run = dry_run(config, model, data_parallel_size);
  return {.memory = make_memory_plan(run),
          .data_parallel_bytes = run.update_data.bytes - run.matrix_bytes,
          .micro_batch_tensor_parallel_bytes = run.micro_batch_tensor_parallel_bytes()};
}

std::uint64_t checkpoint_bytes(const ModelSpec& model, const OptimConfig& optim) {
  const Parameters parameters = declare_parameters(model, TensorParallelShard::of(model, 0, 1));
  std::uint64_t elements = 0;
  for (const Parameter& p : parameters.all())
    elements += p.local_size() * (optim.is_muon() && is_hidden_matrix(p) ? 2 : 3);
  return sizeof(float) * elements;
}

RunPlan plan_run(const RunConfig& config, const ModelSpec& model, int data_parallel_size) {
  const TensorParallelShard shard = TensorParallelShard::of(model, 0, config.parallel.tensor);
  const ReductionSlots slots =
      ReductionSlots::make(config.train.batch, config.train.micro_batch, config.numerics.slots, data_parallel_size);
  const RankPlan rank = plan_rank(config, model, data_parallel_size);
  const double tokens = static_cast<double>(config.train.batch) * config.train.sequence,
               micro_batches = static_cast<double>(slots.micro_batches) / data_parallel_size;
  RunPlan plan{.memory = rank.memory,
               .step_flops = training_flops(model, tokens),
               .step_attention_flops = attention_flops(model, config.train.sequence, config.train.batch),
               .data_parallel_bytes = static_cast<std::uint64_t>(rank.data_parallel_bytes),
               .tensor_parallel_bytes = static_cast<std::uint64_t>(
                   std::min(micro_batches * rank.micro_batch_tensor_parallel_bytes, kMaxBytes)),
               .checkpoint_bytes = checkpoint_bytes(model, config.optim),
               .slots = slots.slots,
               .partial_gradients = std::countr_zero(static_cast<unsigned>(slots.slots_per_rank()))};
  if (config.optim.is_muon()) add_muon(plan, declare_parameters(model, shard).all(), data_parallel_size, shard.size);
  return plan;
}

Json to_json(const RunPlan& plan) {
  const MemoryPlan& m = plan.memory;
  return {{"slots", plan.slots},
          {"partial_gradients", plan.partial_gradients},
          {"memory_bytes",
           {{"weights", m.weights},
            {"compute_copy", m.compute_copy},
            {"gradients", m.gradients},
            {"slot_partials", m.slot_partials},
            {"moments", m.moments},
            {"orthogonal", m.orthogonalization},
            {"activations", m.activations},
            {"logits", m.logits},
            {"other", m.other},
            {"checkpoint_staging", m.staging},
            {"total", m.total()}}},
          {"step_flops", plan.step_flops},
          {"step_attention_flops", plan.step_attention_flops},
          {"step_orthogonal_flops", plan.step_orthogonalization_flops},
          {"reduce_bytes_per_step", plan.data_parallel_bytes},
          {"tensor_bytes_per_step", plan.tensor_parallel_bytes},
          {"orthogonal_bytes_per_step", plan.orthogonalization_bytes},
          {"checkpoint_bytes", plan.checkpoint_bytes}};
}

}  // namespace slipway
