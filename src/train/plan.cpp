#include "src/train/plan.hpp"

#include <algorithm>
#include <bit>
#include <utility>

#include "src/model/head.hpp"
#include "src/model/tensor_split.hpp"
#include "src/train/run.hpp"
#include "src/train/slots.hpp"

namespace slipway {
namespace {

/// Elements of rank 0's arena, padding to cache lines left out (below 0.1 %).
std::uint64_t arena_elements(const ModelDescription& m, const TensorSplit& split) {
  const auto D = static_cast<std::uint64_t>(m.width), K = static_cast<std::uint64_t>(m.head_width);
  const std::uint64_t Q = static_cast<std::uint64_t>(split.heads.room) * K,
                      KV = static_cast<std::uint64_t>(split.kv_heads.room) * K;
  const auto F = static_cast<std::uint64_t>(split.ffn.room), V = static_cast<std::uint64_t>(split.vocabulary.room);
  std::uint64_t block = 2 * D + 2 * Q * D + 2 * KV * D + 3 * D * F;
  if (m.qkv_bias) block += Q + 2 * KV;
  if (m.qk_norm) block += 2 * K;
  return static_cast<std::uint64_t>(m.layers) * block + D + V * D * (m.tied ? 1 : 2);
}

/// Numbers of the compute type, and floats, of one row.
struct RowNumbers {
  std::uint64_t compute = 0, floats = 0;
  std::uint64_t bytes(DType type) const { return compute * bytes_of(type) + 4 * floats; }
};

/// What BlockActivations keeps, and BlockGradients (src/model/block.hpp).
std::pair<RowNumbers, RowNumbers> block_numbers(const ModelDescription& m, const TensorSplit& split, DType compute) {
  const auto D = static_cast<std::uint64_t>(m.width), H = static_cast<std::uint64_t>(split.heads.room),
             K = static_cast<std::uint64_t>(m.head_width);
  const std::uint64_t Q = H * K, KV = static_cast<std::uint64_t>(split.kv_heads.room) * K,
                      F = static_cast<std::uint64_t>(split.ffn.room);
  return {{.compute = 2 * D + 2 * Q + 2 * KV + 3 * F + (m.qk_norm ? Q + KV : 0), .floats = D + H},
          {.compute = 2 * Q + 2 * KV + 2 * F + (compute == DType::kF32 ? 0 : D), .floats = D}};
}

}  // namespace

RunPlan plan_run(const RunConfig& config, const ModelDescription& model, int data_ranks) {
  const TensorSplit split = TensorSplit::of(model, 0, config.layout.tensor);
  const SlotPlan slots =
      SlotPlan::make(config.train.batch, config.train.micro_batch, config.numerics.slots, data_ranks);
  const std::uint64_t arena = arena_elements(model, split), data = static_cast<std::uint64_t>(data_ranks);
  const auto rows =
      static_cast<std::uint64_t>(config.train.micro_batch) * static_cast<std::uint64_t>(config.train.sequence);
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
  const std::uint64_t kept_blocks = config.train.recompute ? 1 : layers;
  const DType compute = config.compute();
  const auto [kept, gradients] = block_numbers(model, split, compute);
  // Block inputs and the last block's output; the last norm's output; two gradients of the residual stream.
  const RowNumbers around{.compute = D, .floats = (layers + 1) * D + 2 * D};
  memory.activations = rows * (kept_blocks * kept.bytes(compute) + gradients.bytes(compute) + around.bytes(compute));
  memory.logits = std::min<std::uint64_t>(kChunkRows, rows) *
                  (bytes_of(compute) * static_cast<std::uint64_t>(split.vocabulary.room) + 4 * kTileColumns);
  memory.staging = 12 * arena / data;

  const double tokens = static_cast<double>(config.train.batch) * config.train.sequence;
  plan.step_flops = training_flops(model, tokens);
  plan.step_attention_flops = attention_flops(model, config.train.sequence, config.train.batch);
  plan.reduce_bytes = 2 * 4 * arena * (data - 1) / data;
  plan.checkpoint_bytes = checkpoint_bytes(model);
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
            {"activations", m.activations},
            {"logits", m.logits},
            {"checkpoint_staging", m.staging},
            {"total", m.total()}}},
          {"step_flops", plan.step_flops},
          {"step_attention_flops", plan.step_attention_flops},
          {"reduce_bytes_per_step", plan.reduce_bytes},
          {"checkpoint_bytes", plan.checkpoint_bytes}};
}

}  // namespace slipway
