// AdamW, and Muon for hidden matrices, with their state sharded over data ranks (ZeRO-1).
#pragma once

#include <optional>
#include <vector>

#include "comm/mesh.hpp"
#include "kernels/backend/backend.hpp"
#include "src/model/parameters.hpp"
#include "src/optim/arena_shards.hpp"
#include "src/optim/matrix_redistribution.hpp"
#include "src/optim/newton_schulz.hpp"
#include "src/optim/optim_config.hpp"

namespace slipway {

/// This data rank's shard of one tensor, and its optimizer state.
struct OptimizerShard {
  struct Moment {
    const char* kind = "";  ///< as checkpoints name it: "adam_m", "adam_v", "muon_m"
    std::span<float> values;
  };
  ParameterSlice slice;
  std::vector<Moment> moments;  ///< adam_m and adam_v, or muon_m
};

/// Updates the shards of the arena that this data rank owns, and all-gathers the weights, in the type that ops read.
/// Where matmuls compute in bf16, other ranks' shards are up to date in f32 only where Parameter::keep_f32 says so.
///
/// With g the clipped gradient, AdamW updates all parameters, or with Muon all but hidden matrices (is_hidden_matrix).
/// Muon updates these: `m = momentum (m + g)`, `w -= lr (0.2 sqrt(max(rows, cols)) orthogonal(g + m) + decay w)`, where
/// each whole matrix is orthogonalized on one rank (MatrixRedistribution). m is momentum times the usual momentum
/// buffer, which saves a pass over it.
///
/// Source   Rajbhandari et al., "ZeRO", 2020, stage 1. Muon: Jordan et al., 2024, with Nesterov momentum; the factor
///          0.2 sqrt(max(rows, cols)), which gives an update the RMS of AdamW's, so that learning rate and weight decay
///          carry over: Liu et al., "Muon is scalable for LLM training", 2025.
class Optimizer {
 public:
  /// All arguments but the config must outlive this object. The moments are allocated in `moments`, which the kernels
  /// can access: device memory, or its staging().
  Optimizer(const OptimConfig& config, Parameters& parameters, const Backend& backend, Mesh& mesh,
            const ArenaShards& shards, MemorySpace& moments_space);

  /// Sums of squares of the gradient over the fixed chunks of the arena that this rank owns, so that the total is the
  /// same on any number of data ranks. For chunk c, squares[2 c] is that of replicated and squares[2 c + 1] that of
  /// tensor-parallel parameters. Entries of other chunks are not written.
  void sum_squares(std::span<const float> gradients, double* squares);

  /// Step number `step` of these moments (from 0) with `gradients * *grad_scale`, or none where that is NaN; afterwards
  /// the contents of `gradients` are undefined. Other ranks' shards are those of the step before until
  /// all_gather_weights(). Collective over both groups.
  void step(std::span<float> gradients, std::int64_t step, double lr, const float* grad_scale);

  /// All-gathers the weights: in f32, or, where matmuls compute in bf16, their bf16 copy (this rank's part of it was
  /// written with the weights) and in f32 only the ranges that ops read in f32. Collective over the data group.
  void all_gather_weights();

  /// Whether the moments are in host memory.
  bool moments_on_host() const { return first_moments_.space().is_host(); }
  /// The shards that this rank owns, in the arena's order.
  std::span<const OptimizerShard> shards() const { return shards_; }

 private:
  bool uses_muon(const Parameter& parameter) const { return muon_ && is_hidden_matrix(parameter); }
  void adamw_step(const OptimizerShard& shard, std::span<const float> gradients, std::int64_t step, double lr,
                  const float* grad_scale);
  void add_momentum(const OptimizerShard& shard, std::span<float> gradients, const float* grad_scale);
  void muon_step(const OptimizerShard& shard, std::span<const float> directions, double lr, const float* grad_scale);

  struct Muon {
    MatrixRedistribution matrices;
    NewtonSchulz newton_schulz;
  };

  OptimConfig config_;
  Parameters& parameters_;
  const Backend& backend_;
  Group& data_;
  Stream stream_ = backend_.main_stream();
  const ArenaShards& arena_;
  std::vector<Group::Range> owned_;
  std::optional<Muon> muon_;
  Buffer<float> first_moments_, second_moments_;
  std::vector<OptimizerShard> shards_;
};

}  // namespace slipway
