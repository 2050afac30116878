// Matrices that ranks hold in parts, made whole on one rank each, and taken apart again.
#pragma once

#include <span>
#include <vector>

#include "comm/world.hpp"
#include "src/model/parameters.hpp"

namespace slipway {

/// True for what Muon moves: what multiplies inside the blocks. Embedding and head stay with AdamW, since a token's row
/// of theirs says nothing about its neighbours'.
bool is_hidden_matrix(const Parameter& parameter);

/// Which of `ranks` makes each hidden matrix whole, by position in `parameters`; -1 for other parameters and frozen
/// ones. The costliest (orthogonal_flops) is dealt first, each to the rank that has least so far. The same on every
/// rank.
std::vector<int> deal_matrices(std::span<const Parameter> parameters, int ranks);

/// Moves hidden matrices between the arenas in which data ranks own ranges, and tensor ranks hold rows or columns, and
/// the one rank of the mesh that each is dealt to.
///
/// A matrix meets in two stages: its ranges on the data rank it is dealt to, at their own place in that rank's arena;
/// then, where tensor ranks divide it, their parts on one of them. Without tensor ranks nothing needs memory of its
/// own.
///
/// Ranks    every function is collective over the mesh.
/// Cost     gather, or scatter: with N elements of matrices in an arena, R data and T tensor ranks, a rank sends about
///          N (R - 1) / R^2 + N (T - 1) / (R T) elements.
class WholeMatrices {
 public:
  /// `kernels` are those that compute with the parameters.
  WholeMatrices(const Parameters& parameters, const KernelTable& kernels, Mesh& mesh);

  /// From `arena`, of which each data rank's owned range is valid, the matrices that are dealt to this rank, whole and
  /// without padding. They stay valid, and may be changed, until scatter(); what is beyond the owned range is scratch.
  std::vector<Matrix<float>> gather(std::span<float> arena);
  /// The reverse: every owner of a part has it again in its owned range of `arena`.
  void scatter(std::span<float> arena);

 private:
  using Pieces = std::vector<Matrix<float>>;
  /// What goes to each member of a group and what comes from it, in one order on both sides.
  struct Route {
    explicit Route(int members) : to(static_cast<std::size_t>(members)), from(to) {}
    std::vector<Pieces> to, from;
  };
  struct Part {
    int first = 0, count = 0;  ///< of the shard's axis
  };
  struct Hidden {
    const Parameter* parameter = nullptr;
    int data_owner = 0, tensor_owner = 0;
    std::vector<Part> parts;   ///< what each tensor rank holds; empty where they all hold the whole
    std::size_t whole_at = 0;  ///< in wholes_, where it is dealt to this rank and divided
  };

  Route between_data_ranks(std::span<float> arena) const;
  Route between_tensor_ranks(std::span<float> arena, bool copies);
  Matrix<float> local(const Hidden& hidden, std::span<float> arena) const;
  Matrix<float> part_of_whole(const Hidden& hidden, int tensor_rank);
  bool here(const Hidden& hidden) const;
  void copy(Matrix<float> from, Matrix<float> to);
  void exchange(Group& group, const std::vector<Pieces>& send, const std::vector<Pieces>& receive);

  const KernelTable& kernels_;
  Group& data_;  // in the memory of the kernels, as tensor_ is
  Group& tensor_;
  Stream stream_;
  std::size_t arena_size_;
  std::vector<Hidden> hidden_;
  Buffer<float> wholes_;              // of divided matrices that are dealt to this rank
  Buffer<float> leaving_, arriving_;  // one message each
};

}  // namespace slipway
