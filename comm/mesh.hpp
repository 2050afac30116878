// The mesh of ranks: data x tensor.
#pragma once

#include <memory>

#include "comm/group.hpp"

namespace slipway {

class World;

/// The groups of the current rank: rank = data_rank * tensor_size + tensor_rank, so that tensor groups stay in a node.
struct Mesh {
  std::unique_ptr<Group> data;    ///< ranks that hold the same shard of the weights
  std::unique_ptr<Group> tensor;  ///< ranks that together hold one copy of the weights
};
/// Its groups sum by `reduction`.
/// Errors: Fault::kConfig, with a hint, when tensor_size does not divide the world's size, or the data size is not
/// a power of two.
Mesh make_mesh(World& world, int tensor_size, Reduction reduction = Reduction::kCanonical);
/// The checks of make_mesh alone, before ranks are started. Errors: as make_mesh.
void check_mesh(int ranks, int tensor_size);
/// The same mesh for a member of a thread group, for tests.
Mesh make_thread_mesh(Group& world_group, int tensor_size, Reduction reduction = Reduction::kCanonical);

}  // namespace slipway
