// Gathers each sharded matrix on one rank, and scatters it back, for Muon.
#pragma once

#include <span>
#include <vector>

#include "comm/mesh.hpp"
#include "src/model/parameters.hpp"
#include "src/optim/arena_shards.hpp"

namespace slipway {

/// True for the parameters that Muon updates: the matrices of the blocks. AdamW updates embedding and head, whose rows
/// belong to unrelated tokens.
bool is_hidden_matrix(const Parameter& parameter);

/// The rank, of `ranks`, that each hidden matrix is gathered on, by position in `parameters`; -1 for other parameters
/// and frozen ones. Greedy: the most expensive (orthogonal_flops) first, each to the rank with the least work so far.
/// The same on every rank.
std::vector<int> assign_matrices(std::span<const Parameter> parameters, int ranks);

/// Redistributes hidden matrices between the arenas, in which data ranks own ranges and tensor ranks hold rows or
/// columns, and the one rank of the mesh that each matrix is assigned to.
///
/// Two stages: the ranges of a matrix are sent to the data rank that it is assigned to, in place in that rank's arena;
/// then, where it is tensor-parallel, its shards are sent to one tensor rank. With one tensor rank no extra memory is
/// needed.
///
/// Ranks    every function is collective over the mesh.
/// Cost     gather, or scatter: with N elements of matrices in an arena, R data and T tensor ranks, a rank sends about
///          N (R - 1) / R^2 + N (T - 1) / (R T) elements.
class MatrixRedistribution {
 public:
  /// All must outlive it. `backend` computes with the parameters.
  /// Errors   Fault::kConfig for a matrix of more elements on a rank than an int counts, where there are several ranks.
  MatrixRedistribution(const Parameters& parameters, const Backend& backend, Mesh& mesh, const ArenaShards& shards);

  /// Gathers the matrices that are assigned to this rank, whole and without padding, from `arena`, of which each data
  /// rank's owned ranges are valid. They stay valid, and may be changed, until scatter(). Elements of `arena` outside
  /// the owned ranges are used as scratch memory.
  std::vector<Matrix<float>> gather(std::span<float> arena);
  /// The reverse: writes the matrices back to the owned ranges of every rank's `arena`.
  void scatter(std::span<float> arena);

 private:
  using Matrices = std::vector<Matrix<float>>;
  /// What is sent to each rank of a group and received from it, in the same order on both sides.
  struct ExchangePlan {
    explicit ExchangePlan(int members) : to(static_cast<std::size_t>(members)), from(to) {}
    std::vector<Matrices> to, from;
  };
  struct Part {
    int first = 0, count = 0;  ///< of the shard's axis
  };
  struct MatrixPlacement {
    const Parameter* parameter = nullptr;
    int data_owner = 0, tensor_owner = 0;
    std::vector<Part> parts;          ///< the shard of each tensor rank; empty for a replicated matrix
    std::size_t gathered_offset = 0;  ///< in gathered_, for a sharded matrix that is assigned to this rank
  };

  ExchangePlan data_exchange_plan(std::span<float> arena) const;
  ExchangePlan tensor_exchange_plan(std::span<float> arena, bool include_replicated);
  Matrix<float> local(const MatrixPlacement& placement, std::span<float> arena) const;
  Matrix<float> gathered_part(const MatrixPlacement& placement, int tensor_rank);
  bool is_local(const MatrixPlacement& placement) const;
  void copy(Matrix<float> from, Matrix<float> to);
  void exchange(Group& group, const std::vector<Matrices>& send, const std::vector<Matrices>& receive);

  const Backend& backend_;
  Group& data_;  // for the memory of the backend, as tensor_
  Group& tensor_;
  Stream stream_ = backend_.main_stream();
  const ArenaShards& shards_;
  std::vector<MatrixPlacement> placements_;
  Buffer<float> gathered_;                      // of sharded matrices that are assigned to this rank
  Buffer<float> send_buffer_, receive_buffer_;  // one message each
};

}  // namespace slipway
