#include "src/plan/plan.hpp"

#include <algorithm>
#include <bit>
#include <utility>
#include <vector>

#include "src/model/head.hpp"
#include "src/model/model_layers.hpp"
#include "src/model/model_tensors.hpp"
#include "src/model/tensor_parallel_shard.hpp"
#include "src/optim/matrix_redistribution.hpp"
#include "src/optim/reduction_slots.hpp"

namespace slipway {
namespace {

/// Rank 0's parameters, declared and not allocated.
Parameters declared(const ModelSpec& model, const TensorParallelShard& split) {
  Parameters parameters;
  const ModelLayers layers(model, split, parameters);
  return parameters;
}

/// Elements of the parameters that `counts` chooses, padding to cache lines left out (below 0.1 %).
template <class Counts>
std::uint64_t elements_of(const Parameters& parameters, const Counts& counts) {
  std::uint64_t sum = 0;
  for (const Parameter& p : parameters.all())
    if (counts(p)) sum += p.local_size();
  return sum;
}

/// Elements per row: of the compute type, of f32, and of f32 in local rows only (SequenceParallel).
struct RowElements {
  std::uint64_t compute = 0, floats = 0, local_floats = 0;
};

/// What BlockActivations saves, and scratch memory (src/model/layers/block.hpp).
std::pair<RowElements, RowElements> block_numbers(const ModelSpec& m, const TensorParallelShard& split, DType compute,
                                                  bool save_cheap_activations) {
  const auto D = static_cast<std::uint64_t>(m.width), H = static_cast<std::uint64_t>(split.heads.padded_size),
             K = static_cast<std::uint64_t>(m.head_width);
  const std::uint64_t Q = H * K, KV = static_cast<std::uint64_t>(split.kv_heads.padded_size) * K,
                      F = static_cast<std::uint64_t>(split.ffn.padded_size);
  const bool gated = m.block_kinds().front().feed_forward == FeedForwardKind::kSwiglu;
  const std::uint64_t hidden = gated ? 2 * F : F;
  return {{.compute = 2 * Q + 2 * KV + hidden + (m.qk_norm ? Q + KV : 0) + (save_cheap_activations ? 2 * D + F : 0),
           .floats = H,
           .local_floats = D},
          {.compute = D + 2 * Q + 2 * KV + 2 * F + hidden + (compute == DType::kF32 ? 0 : D), .floats = D}};
}

/// Elements in rank 0's range of the arena, [0, owned), that AdamW moves where Muon moves hidden matrices. The arena's
/// order is that of Parameters::allocate: what tensor ranks hold whole first.
std::uint64_t adamw_elements(const Parameters& parameters, std::uint64_t owned) {
  std::uint64_t at = 0, sum = 0;
  for (const bool whole : {true, false})
    for (const bool in_f32 : {true, false})
      for (const Parameter& p : parameters.all()) {
        if ((p.shard == ShardAxis::kReplicated) != whole || p.keep_f32 != in_f32) continue;
        const std::uint64_t end = at + p.local_size();
        if (!is_hidden_matrix(p)) sum += std::min(end, owned) - std::min(at, owned);
        at = end;
      }
  return sum;
}

/// What Muon asks of rank 0, and of the busiest rank.
void add_muon(RunPlan& plan, const RunConfig& config, const Parameters& parameters, const TensorParallelShard& split,
              std::uint64_t owned, int data_ranks) {
  const int ranks = data_ranks * split.size;
  const std::vector<int> owners = assign_matrices(parameters.all(), ranks);
  std::vector<double> flops(static_cast<std::size_t>(ranks), 0.0);
  std::uint64_t scratch = 0, wholes = 0, local = 0;
  for (std::size_t i = 0; i < owners.size(); ++i) {
    if (owners[i] < 0) continue;
    const Parameter& p = parameters.all()[i];
    flops[static_cast<std::size_t>(owners[i])] += orthogonal_flops(p.rows, p.cols);
    local += p.local_size();
    if (owners[i] != 0) continue;
    scratch = std::max(scratch, orthogonal_bytes(p.rows, p.cols, config.compute()));
    if (split.size > 1 && p.shard != ShardAxis::kReplicated)
      wholes += 4 * static_cast<std::uint64_t>(p.rows) * static_cast<std::uint64_t>(p.cols);
  }
  plan.memory.moments = 4 * owned + 4 * adamw_elements(parameters, owned);
  plan.memory.orthogonal = scratch + wholes;
  plan.step_orthogonal_flops = *std::ranges::max_element(flops);
  const double R = data_ranks, T = split.size;
  plan.orthogonal_bytes =
      static_cast<std::uint64_t>(2 * 4 * static_cast<double>(local) * ((R - 1) / (R * R) + (T - 1) / (R * T)));
}

/// Bytes that a rank sends to tensor ranks for one micro-batch: all-gathers and reduce-scatters of rows
/// (SequenceParallel), or all-reduces where the rows are not sharded.
std::uint64_t tensor_bytes(std::uint64_t rows, std::uint64_t width, std::uint64_t layers, int ranks, DType compute,
                           Recompute recompute) {
  const auto T = static_cast<std::uint64_t>(ranks), recompute_blocks = recompute == Recompute::kBlocks ? layers - 1 : 0;
  const std::uint64_t pieces = rows * width * (T - 1) / T;  // of all rows, what one message of all leaves or brings
  const std::uint64_t sums =
      2 + 4 * layers + 2 * recompute_blocks;  // of the embedding and the head; two a block each way
  const auto all = static_cast<std::int64_t>(rows);
  if (SequenceParallel::local_rows_of(all, ranks) == all) return 2 * 4 * pieces * sums;
  // One of the head; per block two in the forward pass, two in the backward pass, and two of recomputed norms.
  const std::uint64_t gathers = 1 + (recompute == Recompute::kNone ? 4 : 6) * layers + 2 * recompute_blocks;
  return pieces * (4 * sums + bytes_of(compute) * gathers + 4);  // and the embedding's gradient
}

}  // namespace

std::uint64_t checkpoint_bytes(const ModelSpec& model, const OptimConfig& optim) {
  const Parameters parameters = declared(model, TensorParallelShard::of(model, 0, 1));
  const std::uint64_t all = elements_of(parameters, [](const Parameter&) { return true; }),
                      hidden = elements_of(parameters, [](const Parameter&p) { return is_hidden_matrix(p); });
  return sizeof(float) * (3 * all - (optim.is_muon() ? hidden : 0));
}

RunPlan plan_run(const RunConfig& config, const ModelSpec& model, int data_ranks) {
  const TensorParallelShard split = TensorParallelShard::of(model, 0, config.parallel.tensor);
  const ReductionSlots slots =
      ReductionSlots::make(config.train.batch, config.train.micro_batch, config.numerics.slots, data_ranks);
  const Parameters parameters = declared(model, split);
  const std::uint64_t arena = elements_of(parameters, [](const Parameter&) { return true; }),
                      in_f32 = elements_of(parameters, [](const Parameter&p) { return p.keep_f32; }),
                      data = static_cast<std::uint64_t>(data_ranks);
  const auto rows =
      static_cast<std::uint64_t>(config.train.micro_batch) * static_cast<std::uint64_t>(config.train.sequence);
  const auto shard_rows =
      static_cast<std::uint64_t>(SequenceParallel::local_rows_of(static_cast<std::int64_t>(rows), split.size));
  const auto layers = static_cast<std::uint64_t>(model.layers), D = static_cast<std::uint64_t>(model.width);

  RunPlan plan;
  plan.slots = slots.slots;
  plan.partial_gradients = std::countr_zero(static_cast<unsigned>(slots.slots_per_rank()));
  MemoryPlan& memory = plan.memory;
  memory.weights = 4 * arena;
  memory.compute_copy = config.compute() == DType::kBf16 ? 2 * arena : 0;
  memory.gradients = 4 * arena;
  memory.slot_partials = 4 * arena * static_cast<std::uint64_t>(plan.partial_gradients);
  memory.moments = 8 * arena / data;
  if (config.optim.is_muon()) add_muon(plan, config, parameters, split, arena / data, data_ranks);
  const std::uint64_t kept_blocks = config.recompute() == Recompute::kBlocks ? 1 : layers;
  const DType compute = config.compute();
  const auto [kept, gradients] = block_numbers(model, split, compute, config.recompute() == Recompute::kNone);
  // Block inputs and the last block's output; the last norm's output; two gradients of the residual stream.
  const RowElements around{.compute = D, .floats = 2 * D, .local_floats = (layers + 1) * D};
  const auto bytes = [&](const RowElements& n) {  // in doubles, since keys may ask for more than 64 bits count
    return static_cast<double>(rows) * static_cast<double>(n.compute * bytes_of(compute) + 4 * n.floats) +
           static_cast<double>(shard_rows) * static_cast<double>(4 * n.local_floats);
  };
  constexpr double kMaxBytes = 0x1p60;  // a sum of several such terms still fits into 64 bits
  memory.activations = static_cast<std::uint64_t>(
      std::min(kMaxBytes, static_cast<double>(kept_blocks) * bytes(kept) + bytes(gradients) + bytes(around)));
  const auto vocabulary = static_cast<std::uint64_t>(split.vocabulary.padded_size);
  const std::uint64_t tile =
      compute == DType::kF32 ? 0 : std::min<std::uint64_t>(VocabTiles::in(config.on_host).columns, vocabulary);
  memory.logits =
      std::min<std::uint64_t>(VocabTiles::in(config.on_host).rows, rows) * (bytes_of(compute) * vocabulary + 4 * tile);
  memory.staging = 4 * arena / data + memory.moments;

  const double tokens = static_cast<double>(config.train.batch) * config.train.sequence;
  plan.step_flops = training_flops(model, tokens);
  plan.step_attention_flops = attention_flops(model, config.train.sequence, config.train.batch);
  const std::uint64_t back = compute == DType::kBf16 ? 2 * arena * (data - 1) / data + (data > 1 ? 4 * in_f32 : 0)
                                                     : 4 * arena * (data - 1) / data;
  plan.reduce_bytes = 4 * arena * (data - 1) / data + back;
  plan.tensor_bytes = static_cast<std::uint64_t>(slots.micro_batches / data_ranks) *
                      tensor_bytes(rows, D, layers, split.size, compute, config.recompute());
  plan.checkpoint_bytes = checkpoint_bytes(model, config.optim);
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
            {"orthogonal", m.orthogonal},
            {"activations", m.activations},
            {"logits", m.logits},
            {"checkpoint_staging", m.staging},
            {"total", m.total()}}},
          {"step_flops", plan.step_flops},
          {"step_attention_flops", plan.step_attention_flops},
          {"step_orthogonal_flops", plan.step_orthogonal_flops},
          {"reduce_bytes_per_step", plan.reduce_bytes},
          {"tensor_bytes_per_step", plan.tensor_bytes},
          {"orthogonal_bytes_per_step", plan.orthogonal_bytes},
          {"checkpoint_bytes", plan.checkpoint_bytes}};
}

}  // namespace slipway
