// What a run will need: parameters, FLOPs, bytes a rank by kind.
#pragma once

#include <cstdint>

#include "io/model/model_spec.hpp"
#include "src/config/run_config.hpp"
#include "src/core/json.hpp"

namespace slipway {

/// Bytes that one rank holds when it holds most, by what they are.
struct MemoryPlan {
  std::uint64_t weights = 0;            ///< f32 arena of this tensor rank
  std::uint64_t compute_copy = 0;       ///< bf16 copy of it; 0 in f32
  std::uint64_t gradients = 0;          ///< the buffer being added to
  std::uint64_t slot_partials = 0;      ///< the price of the slots: partial gradients beside it
  std::uint64_t moments = 0;            ///< AdamW's two, Muon's one of hidden matrices; divided over data ranks
  std::uint64_t orthogonalization = 0;  ///< the price of Muon: what a matrix is orthogonalized in, and gathered in
  std::uint64_t activations = 0;        ///< of one micro-batch
  std::uint64_t logits = 0;             ///< one chunk
  std::uint64_t other = 0;    ///< batches on a GPU, workspaces of its ops, messages, keys and values of a sample
  std::uint64_t staging = 0;  ///< at most, copied of a checkpoint that the disk has not taken when a step ends

  /// Without staging: a disk that takes a checkpoint while forward and backward last makes no copy (CopyOnWriteSlices).
  std::uint64_t total() const;
};

/// What a dry run of rank 0 counts.
struct RankPlan {
  MemoryPlan memory;
  double data_parallel_bytes = 0;  ///< sent to data ranks a step: gradients once, weights once; no matrices of Muon
  double micro_batch_tensor_parallel_bytes =
      0;  ///< sent to tensor ranks a micro-batch: activations and their gradients
};

/// Plans rank 0 of data_parallel_size x config.parallel.tensor ranks of the run that `config`, resolved, describes.
///
/// Precision exact, but for more than 256 layers, 2^14 tokens at once or numerics.slots of 1024 a data rank: then on
///          the line through two smaller dry runs, which memory follows but for the padding of the arena.
/// Cost     milliseconds, whatever the keys are.
/// Errors   Fault::kConfig for a layout that cannot be.
RankPlan plan_rank(const RunConfig& config, const ModelSpec& model, int data_parallel_size);

struct RunPlan {
  MemoryPlan memory;
  double step_flops = 0;  ///< 6 x matmul parameters x tokens
  double step_attention_flops = 0;
  double step_orthogonalization_flops = 0;  ///< of Muon, on the rank with most of them
  std::uint64_t data_parallel_bytes = 0;    ///< that a rank sends a step: gradients once, weights once
  std::uint64_t tensor_parallel_bytes =
      0;  ///< that a rank sends to tensor ranks a step, activations and their gradients
  std::uint64_t orthogonalization_bytes =
      0;  ///< of Muon, that a rank sends a step beside those: matrices there and back
  std::uint64_t checkpoint_bytes = 0;
  int slots = 0;
  int partial_gradients = 0;  ///< log2(slots on a rank)
};

/// Plans rank 0 of data_parallel_size x config.parallel.tensor ranks. `config` is resolved.
/// Errors   Fault::kConfig for a layout that cannot be.
RunPlan plan_run(const RunConfig& config, const ModelSpec& model, int data_parallel_size);

/// Bytes of one checkpoint of this model: weights and moments in f32, two of them, or one where Muon moves a matrix.
std::uint64_t checkpoint_bytes(const ModelSpec& model, const OptimConfig& optim);

Json to_json(const RunPlan& plan);

}  // namespace slipway
