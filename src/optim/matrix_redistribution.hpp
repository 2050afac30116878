// Gathers each sharded matrix whole on one rank, and scatters it back: what Muon needs.
#pragma once

#include <span>
#include <vector>

#include "comm/mesh.hpp"
#include "src/model/parameters.hpp"
#include "src/optim/arena_shards.hpp"

namespace slipway {

/// True for what Muon updates: the matrices of the blocks. Embedding and head stay with AdamW, since a token's row
/// of theirs says nothing about its neighbours'.
bool is_hidden_matrix(const Parameter& parameter);

/// Which of `ranks` gets each hidden matrix whole, by position in `parameters`; -1 for other parameters and frozen
/// ones. Greedy: the costliest (orthogonal_flops) first, each to the rank with the least work so far. The same on every
/// rank.
std::vector<int> assign_matrices(std::span<const Parameter> parameters, int ranks);

/// Redistributes hidden matrices between the arenas, in which data ranks own ranges and tensor ranks hold rows or
/// columns, and the one rank of the mesh that each matrix is assigned to.
///
/// Two stages: the ranges of a matrix go to the data rank it is assigned to, in place in that rank's arena; then, where
/// it is tensor-parallel, the shards go to one tensor rank. Without tensor ranks no extra memory is needed.
///
/// Ranks    every function is collective over the mesh.
/// Cost     gather, or scatter: with N elements of matrices in an arena, R data and T tensor ranks, a rank sends about
///          N (R - 1) / R^2 + N (T - 1) / (R T) elements.
class MatrixRedistribution {
 public:
  /// All must outlive it. `backend` computes with the parameters.
  /// Errors   Fault::kConfig for a matrix of more elements on a rank than an int counts, where there are several ranks.
  MatrixRedistribution(const Parameters& parameters, const Backend& backend, Mesh& mesh, const ArenaShards& shards);

  /// From `arena`, of which each data rank's owned ranges are valid, the matrices that are assigned to this rank, whole
  /// and without padding. They stay valid, and may be changed, until scatter(); what is beyond the owned ranges is
  /// scratch.
  std::vector<Matrix<float>> gather(std::span<float> arena);
  /// The reverse: every owner has its part back in its owned ranges of `arena`.
  void scatter(std::span<float> arena);

 private:
  using Pieces = std::vector<Matrix<float>>;
  /// What is sent to each member of a group and received from it, in one order on both sides.
  struct ExchangePlan {
    explicit ExchangePlan(int members) : to(static_cast<std::size_t>(members)), from(to) {}
    std::vector<Pieces> to, from;
  };
  struct Part {
    int first = 0, count = 0;  ///< of the shard's axis
  };
  struct MatrixPlacement {
    const Parameter* parameter = nullptr;
    int data_owner = 0, tensor_owner = 0;
    std::vector<Part> parts;          ///< what each tensor rank holds; empty where they all hold the whole
    std::size_t gathered_offset = 0;  ///< in gathered_, where it is assigned to this rank and sharded
  };

  ExchangePlan data_exchange_plan(std::span<float> arena) const;
  ExchangePlan tensor_exchange_plan(std::span<float> arena, bool copies);
  Matrix<float> local(const MatrixPlacement& hidden, std::span<float> arena) const;
  Matrix<float> gathered_part(const MatrixPlacement& hidden, int tensor_rank);
  bool is_local(const MatrixPlacement& hidden) const;
  void copy(Matrix<float> from, Matrix<float> to);
  void exchange(Group& group, const std::vector<Pieces>& send, const std::vector<Pieces>& receive);

  const Backend& backend_;
  Group& data_;  // in the memory of the kernels, as tensor_ is
  Group& tensor_;
  Stream stream_ = backend_.main_stream();
  const ArenaShards& shards_;
  std::vector<MatrixPlacement> placements_;
  Buffer<float> gathered_;                      // of sharded matrices that are assigned to this rank
  Buffer<float> send_buffer_, receive_buffer_;  // one message each
};

}  // namespace slipway
