// The mesh of ranks: data x tensor.
#pragma once

#include <memory>

#include "comm/group.hpp"

namespace slipway {

class World;

/// data x tensor: rank = data_rank * tensor_size + tensor_rank, so that tensor groups stay inside a node.
struct Mesh {
  std::unique_ptr<Group> data;    ///< ranks that hold the same shard of the weights
  std::unique_ptr<Group> tensor;  ///< ranks that together hold one copy of the weights
};
/// Its groups sum by `reduction`.
/// Errors: Fault::kConfig when the sizes do not multiply to the world's, or the data size is no power of two, with the
/// remedy.
Mesh make_mesh(World& world, int tensor_size, Reduction reduction = Reduction::kCanonical);
/// What make_mesh asks of the sizes, before anything is started. Errors: as make_mesh.
void check_mesh(int ranks, int tensor_size);
/// The mesh of a thread group member, for tests: same arrangement, groups built over threads.
Mesh make_thread_mesh(Group& all, int tensor_size, Reduction reduction = Reduction::kCanonical);

}  // namespace slipway
