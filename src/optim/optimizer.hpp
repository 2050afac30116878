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

/// This data rank's shard of one tensor, and the optimizer state of it.
struct OptimizerShard {
  struct Moment {
    const char* kind = "";  ///< as checkpoints name it: "adam_m", "adam_v", "muon_m"
    std::span<float> values;
  };
  ParameterSlice where;
  std::vector<Moment> moments;  ///< adam_m and adam_v, or muon_m
};

/// Updates the shards of the arena that this data rank owns, and all-gathers the weights, in the type that ops read.
/// Where matmuls compute in bf16, other ranks' shards are up to date in f32 only where Parameter::keep_f32 says so.
///
/// With g the clipped gradient, AdamW updates everything, or everything but hidden matrices (is_hidden_matrix). Those
/// Muon updates: `m = momentum (m + g)`, `w -= lr (0.2 sqrt(max(rows, cols)) orthogonal(g + m) + decay w)`, each matrix
/// made orthogonal as a whole, on one rank (MatrixRedistribution). m is momentum times the sum that is usually kept,
/// which saves a pass.
///
/// Source   Rajbhandari et al., "ZeRO", 2020, stage 1. Muon: Jordan et al., 2024, with
///          Nesterov's momentum; the factor, which gives an update the size of AdamW's, so that rate and decay are
///          AdamW's: Liu et al., "Muon is scalable for LLM training", 2025.
class Optimizer {
 public:
  /// All but the config must outlive it. The moments are allocated in `moments`, which the kernels can access: device
  /// memory, or its staging().
  Optimizer(const OptimConfig& config, Parameters& parameters, const Backend& backend, Mesh& mesh,
            const ArenaShards& shards, MemorySpace& moments);

  /// Sums of squares of the gradient over the arena's fixed chunks that this rank owns, so that their sum is the same
  /// on any number of data ranks: of chunk c, squares[2 c] for replicated and squares[2 c + 1] for tensor-parallel
  /// parameters. Entries of other chunks are not written.
  void sum_squares(std::span<const float> gradients, double* squares);

  /// Step number `step` of these moments (from 0) with `gradients * *factor`, or none where that is NaN; afterwards
  /// the contents of `gradients` are undefined. Other ranks' shards are those of the step before until
  /// all_gather_weights(). Collective over both groups.
  void step(std::span<float> gradients, std::int64_t step, double lr, const float* factor);

  /// All-gathers the weights: in f32, or, where matmuls compute in bf16, their bf16 copy (this rank's part of it was
  /// written with the weights) and in f32 only the ranges that ops read in f32. Collective over the data group.
  void all_gather_weights();

  /// Whether the moments are in host memory.
  bool moments_on_host() const { return first_moments_.space().is_host(); }
  /// What this rank owns, in the arena's order.
  std::span<const OptimizerShard> pieces() const { return shards_; }

 private:
  bool uses_muon(const Parameter& parameter) const { return muon_ && is_hidden_matrix(parameter); }
  void adamw_step(const OptimizerShard& piece, std::span<const float> gradients, std::int64_t step, double lr,
                  const float* factor);
  void add_momentum(const OptimizerShard& piece, std::span<float> gradients, const float* factor);
  void muon_step(const OptimizerShard& piece, std::span<const float> directions, double lr, const float* factor);

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
