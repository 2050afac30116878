#include "comm/mesh.hpp"

#include <bit>

#include "comm/thread_group.hpp"
#include "comm/world.hpp"
#include "src/core/error.hpp"
#include "src/core/words.hpp"

namespace slipway {

void check_mesh(int ranks, int tensor_size) {
  if (tensor_size < 1) throw Error(Fault::kConfig, join("mesh.tensor is ", tensor_size, " but must be at least 1"));
  if (ranks % tensor_size != 0) {
    std::vector<int> divisors;
    for (int divisor = 1; divisor <= ranks; ++divisor)
      if (ranks % divisor == 0) divisors.push_back(divisor);
    const int more_ranks = (ranks + tensor_size - 1) / tensor_size * tensor_size;
    throw Error(Fault::kConfig, join("mesh.tensor is ", tensor_size, " but the run has ", ranks,
                                     ranks == 1 ? " rank" : " ranks", ": start ", more_ranks, " ranks (launch/run -n ",
                                     more_ranks, "), or set mesh.tensor to ", join_or(divisors)));
  }
  const auto data_size = static_cast<unsigned>(ranks / tensor_size);
  if (std::has_single_bit(data_size)) return;
  const int fewer_ranks = static_cast<int>(std::bit_floor(data_size)) * tensor_size,
            more_ranks = static_cast<int>(std::bit_ceil(data_size)) * tensor_size;
  throw Error(Fault::kConfig,
              join(ranks, " ranks with mesh.tensor ", tensor_size, " make ", data_size,
                   " data ranks, which is no power of two, so the sums would have no fixed order: start ", fewer_ranks,
                   " or ", more_ranks, " ranks"));
}

Mesh make_mesh(World& world, int tensor_size, Reduction reduction) {
  const int rank = world.group().rank();
  check_mesh(world.group().size(), tensor_size);
  auto data_group = world.split(/*color=*/rank % tensor_size, /*key=*/rank, reduction);
  auto tensor_group = world.split(/*color=*/rank / tensor_size, /*key=*/rank, reduction);
  return {std::move(data_group), std::move(tensor_group)};
}

Mesh make_thread_mesh(Group& world_group, int tensor_size, Reduction reduction) {
  check_mesh(world_group.size(), tensor_size);
  auto data_group =
      split_threads(world_group, /*color=*/world_group.rank() % tensor_size, /*key=*/world_group.rank(), reduction);
  auto tensor_group =
      split_threads(world_group, /*color=*/world_group.rank() / tensor_size, /*key=*/world_group.rank(), reduction);
  return {std::move(data_group), std::move(tensor_group)};
}

}  // namespace slipway
