#include "src/plan/plan.hpp"

#include <algorithm>
#include <bit>
#include <utility>
#include <vector>

#include "src/model/block.hpp"
#include "src/model/head.hpp"
#include "src/model/tensor_parallel_shard.hpp"
#include "src/optim/matrix_redistribution.hpp"
#include "src/optim/reduction_slots.hpp"

namespace slipway {
namespace {

/// Elements of rank 0's arena, padding to cache lines left out (below 0.1 %).
std::uint64_t arena_elements(const ModelDescription& m, const TensorParallelShard& split) {
  const auto D = static_cast<std::uint64_t>(m.width), K = static_cast<std::uint64_t>(m.head_width);
  const std::uint64_t Q = static_cast<std::uint64_t>(split.heads.padded_size) * K,
                      KV = static_cast<std::uint64_t>(split.kv_heads.padded_size) * K;
  const auto F = static_cast<std::uint64_t>(split.ffn.padded_size),
             V = static_cast<std::uint64_t>(split.vocabulary.padded_size);
  std::uint64_t block = 2 * D + 2 * Q * D + 2 * KV * D + 3 * D * F;
  if (m.qkv_bias) block += Q + 2 * KV;
  if (m.qk_norm) block += 2 * K;
  return static_cast<std::uint64_t>(m.layers) * block + D + V * D * (m.tied ? 1 : 2);
}

/// ... of those that ops read in f32: the embedding's table, norms and biases.
std::uint64_t keep_f32(const ModelDescription& m, const TensorParallelShard& split) {
  const auto D = static_cast<std::uint64_t>(m.width), K = static_cast<std::uint64_t>(m.head_width);
  std::uint64_t vectors = 2 * D;
  if (m.qkv_bias) vectors += static_cast<std::uint64_t>(split.heads.padded_size + 2 * split.kv_heads.padded_size) * K;
  if (m.qk_norm) vectors += 2 * K;
  return static_cast<std::uint64_t>(m.layers) * vectors + D +
         static_cast<std::uint64_t>(split.vocabulary.padded_size) * D;
}

/// Elements per row: of the compute type, of f32, and of f32 in local rows only (SequenceParallel).
struct RowElements {
  std::uint64_t compute = 0, floats = 0, local_floats = 0;
};

/// What BlockActivations keeps, and BlockScratch (src/model/block.hpp).
std::pair<RowElements, RowElements> block_numbers(const ModelDescription& m, const TensorParallelShard& split,
                                                  DType compute, bool save_cheap_activations) {
  const auto D = static_cast<std::uint64_t>(m.width), H = static_cast<std::uint64_t>(split.heads.padded_size),
             K = static_cast<std::uint64_t>(m.head_width);
  const std::uint64_t Q = H * K, KV = static_cast<std::uint64_t>(split.kv_heads.padded_size) * K,
                      F = static_cast<std::uint64_t>(split.ffn.padded_size);
  return {{.compute = 2 * Q + 2 * KV + 2 * F + (m.qk_norm ? Q + KV : 0) + (save_cheap_activations ? 2 * D + F : 0),
           .floats = H,
           .local_floats = D},
          {.compute = D + 2 * Q + 2 * KV + 4 * F + (compute == DType::kF32 ? 0 : D), .floats = D}};
}

/// Elements in rank 0's range of the arena, [0, owned), that AdamW moves where Muon moves hidden matrices. The arena's
/// order is that of Parameters::allocate: what tensor ranks hold whole first.
std::uint64_t adamw_elements(const ModelDescription& m, const TensorParallelShard& split, const Parameters& blocks,
                             std::uint64_t owned) {
  const std::uint64_t D = static_cast<std::uint64_t>(m.width),
                      table = static_cast<std::uint64_t>(split.vocabulary.padded_size) * D;
  std::uint64_t at = 0, sum = 0;
  const auto next = [&](std::uint64_t size, bool hidden) {
    if (!hidden) sum += std::min(at + size, owned) - std::min(at, owned);
    at += size;
  };
  for (const bool whole : {true, false})
    for (const bool in_f32 : {true, false}) {
      if (!whole && in_f32) next(table, false);
      for (const Parameter& p : blocks.all())
        if ((p.shard == ShardAxis::kReplicated) == whole && p.keep_f32 == in_f32)
          next(p.local_size(), is_hidden_matrix(p));
      if (whole && in_f32) next(D, false);  // the final norm
      if (!whole && !in_f32 && !m.tied) next(table, false);
    }
  return sum;
}

/// What Muon asks of rank 0, and of the busiest rank.
void add_muon(RunPlan& plan, const RunConfig& config, const ModelDescription& m, const TensorParallelShard& split,
              std::uint64_t owned, int data_ranks) {
  Parameters blocks;  // declared, and never sealed: no memory is taken
  for (int layer = 0; layer < m.layers; ++layer) Block(m, split, layer, blocks);
  const int ranks = data_ranks * split.size;
  const std::vector<int> owners = assign_matrices(blocks.all(), ranks);
  std::vector<double> flops(static_cast<std::size_t>(ranks), 0.0);
  std::uint64_t scratch = 0, wholes = 0, local = 0;
  for (std::size_t i = 0; i < owners.size(); ++i) {
    if (owners[i] < 0) continue;
    const Parameter& p = blocks.all()[i];
    flops[static_cast<std::size_t>(owners[i])] += orthogonal_flops(p.rows, p.cols);
    local += p.local_size();
    if (owners[i] != 0) continue;
    scratch = std::max(scratch, orthogonal_bytes(p.rows, p.cols, config.compute()));
    if (split.size > 1 && p.shard != ShardAxis::kReplicated)
      wholes += 4 * static_cast<std::uint64_t>(p.rows) * static_cast<std::uint64_t>(p.cols);
  }
  plan.memory.moments = 4 * owned + 4 * adamw_elements(m, split, blocks, owned);
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

std::uint64_t checkpoint_bytes(const ModelDescription& model, const OptimConfig& optim) {
  constexpr std::int64_t kNumber = 4;
  const std::int64_t all = parameter_count(model, true),
                     hidden = matmul_parameters(model) - std::int64_t{model.vocabulary} * model.width;
  return static_cast<std::uint64_t>(kNumber * (3 * all - (optim.is_muon() ? hidden : 0)));
}

RunPlan plan_run(const RunConfig& config, const ModelDescription& model, int data_ranks) {
  const TensorParallelShard split = TensorParallelShard::of(model, 0, config.layout.tensor);
  const ReductionSlots slots =
      ReductionSlots::make(config.train.batch, config.train.micro_batch, config.numerics.slots, data_ranks);
  const std::uint64_t arena = arena_elements(model, split), data = static_cast<std::uint64_t>(data_ranks);
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
  if (config.optim.is_muon()) add_muon(plan, config, model, split, arena / data, data_ranks);
  const std::uint64_t kept_blocks = config.recompute() == Recompute::kBlocks ? 1 : layers;
  const DType compute = config.compute();
  const auto [kept, gradients] = block_numbers(model, split, compute, config.recompute() == Recompute::kNone);
  // Block inputs and the last block's output; the last norm's output; two gradients of the residual stream.
  const RowElements around{.compute = D, .floats = 2 * D, .local_floats = (layers + 1) * D};
  const auto bytes = [&](const RowElements& n) {  // in doubles, since keys may ask for more than 64 bits count
    return static_cast<double>(rows) * static_cast<double>(n.compute * bytes_of(compute) + 4 * n.floats) +
           static_cast<double>(shard_rows) * static_cast<double>(4 * n.local_floats);
  };
  constexpr double kMostBytes = 0x1p60;  // a sum of several such terms still fits into 64 bits
  memory.activations = static_cast<std::uint64_t>(
      std::min(kMostBytes, static_cast<double>(kept_blocks) * bytes(kept) + bytes(gradients) + bytes(around)));
  const auto vocabulary = static_cast<std::uint64_t>(split.vocabulary.padded_size);
  const std::uint64_t tile =
      compute == DType::kF32 ? 0 : std::min<std::uint64_t>(VocabTiles::in(config.on_host).columns, vocabulary);
  memory.logits =
      std::min<std::uint64_t>(VocabTiles::in(config.on_host).rows, rows) * (bytes_of(compute) * vocabulary + 4 * tile);
  memory.staging = 4 * arena / data + memory.moments;

  const double tokens = static_cast<double>(config.train.batch) * config.train.sequence;
  plan.step_flops = training_flops(model, tokens);
  plan.step_attention_flops = attention_flops(model, config.train.sequence, config.train.batch);
  const std::uint64_t back = compute == DType::kBf16
                                 ? 2 * arena * (data - 1) / data + (data > 1 ? 4 * keep_f32(model, split) : 0)
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
