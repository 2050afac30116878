// AdamW, and Muon for hidden matrices, with their state divided over data ranks (ZeRO-1).
#pragma once

#include <optional>
#include <vector>

#include "comm/world.hpp"
#include "kernels/table.hpp"
#include "src/model/parameters.hpp"
#include "src/train/config.hpp"
#include "src/train/orthogonalize.hpp"
#include "src/train/whole_matrices.hpp"

namespace slipway {

/// What this data rank owns of one tensor, and what the optimizer keeps beside it.
struct OwnedPiece {
  struct Moment {
    const char* kind = "";  ///< as checkpoints name it: "adam_m", "adam_v", "muon_m"
    std::span<float> values;
  };
  ArenaPiece where;
  std::vector<Moment> moments;  ///< adam_m and adam_v, or muon_m
};

/// Moves the part of the arena that this data rank owns, then gathers the weights of all: in the type that ops read
/// them in. Where products compute in bf16, what others own is up to date in f32 only where Parameter::read_in_f32 says
/// so.
///
/// With g the gradient, clipped, AdamW moves everything, or everything but hidden matrices (is_hidden_matrix). Those
/// Muon moves: `m = momentum (m + g)`, `w -= lr (0.2 sqrt(max(rows, cols)) orthogonal(g + m) + decay w)`, each matrix
/// made orthogonal as a whole, on one rank (WholeMatrices). m is momentum times the sum that is usually kept, which
/// saves a pass.
///
/// Source   Rajbhandari et al., "ZeRO", 2020, stage 1; ownership as Group::owned_range. Muon: Jordan et al., 2024, with
///          Nesterov's momentum; the factor, which gives an update the size of AdamW's, so that rate and decay are
///          AdamW's: Liu et al., "Muon is scalable for LLM training", 2025.
class Optimizer {
 public:
  /// The moments lie in `moments`, where the kernels can reach it: their own memory, or its staging().
  Optimizer(const OptimConfig& config, Parameters& parameters, const KernelTable& kernels, Mesh& mesh,
            MemorySpace& moments);
  Optimizer(const OptimConfig& config, Parameters& parameters, const KernelTable& kernels, Mesh& mesh)
      : Optimizer(config, parameters, kernels, mesh, *kernels.memory) {}

  /// Sums of squares of the gradient over the arena's fixed chunks that this rank owns, so that their sum is the same
  /// on any number of data ranks: of chunk c, squares[2 c] of what tensor ranks hold alike and squares[2 c + 1] of what
  /// they hold apart. Those of other chunks stay.
  void sum_squares(std::span<const float> gradients, double* squares);

  /// Step number `step` of these moments (from 0) with `gradients * *factor`, or none where that is NaN; afterwards
  /// `gradients` holds nothing of use. Collective over both groups.
  void step(std::span<float> gradients, std::int64_t step, double lr, const float* factor);

  /// Whether the moments lie in the host's memory.
  bool moments_on_host() const { return first_moments_.space().is_host(); }
  /// What this rank owns, in the arena's order.
  std::span<const OwnedPiece> pieces() const { return pieces_; }

 private:
  bool by_muon(const Parameter& parameter) const { return muon_ && is_hidden_matrix(parameter); }
  void move_by_adamw(const OwnedPiece& piece, std::span<const float> gradients, std::int64_t step, double lr,
                     const float* factor);
  void add_momentum(const OwnedPiece& piece, std::span<float> gradients, const float* factor);
  void move_along(const OwnedPiece& piece, std::span<const float> directions, double lr, const float* factor);

  void gather();

  struct Muon {
    WholeMatrices matrices;
    Orthogonalizer orthogonalizer;
  };

  OptimConfig config_;
  Parameters& parameters_;
  const KernelTable& kernels_;
  Group& data_;
  Stream stream_;
  Group::Range owned_;
  std::optional<Muon> muon_;
  Buffer<float> first_moments_, second_moments_;
  std::vector<OwnedPiece> pieces_;
};

}  // namespace slipway
