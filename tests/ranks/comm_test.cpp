// Groups of MPI ranks give the same bits as groups of threads; long messages are sent in parts.
#include <gtest/gtest.h>

#include "comm/mesh.hpp"
#include "comm/mpi_group.hpp"
#include "src/core/error.hpp"
#include "tests/ranks/comm_checks.hpp"
#include "tests/support/ranks_main.hpp"

namespace slipway {
namespace {

TEST(MpiGroup, PrimitivesMoveEveryByteToItsPlace) { check_primitives(test_world().group()); }
TEST(MpiGroup, ScalarsTextsAndAgreementAreTheSameOnAllRanks) { check_scalars(test_world().group()); }
TEST(MpiGroup, SumsMatchDoublePrecision) { check_sum_against_f64(test_world().group()); }
TEST(MpiGroup, SumsEqualTheTreeToTheBit) {
  check_all_reduce<float>(test_world().group());
  check_all_reduce<double>(test_world().group());
}
TEST(MpiGroup, ReduceScatterLeavesTheTreeSumInTheOwnedPiece) {
  Group& group = test_world().group();
  if (std::has_single_bit(static_cast<unsigned>(group.size()))) check_reduce_scatter(group);
}

TEST(MpiGroup, MessagesLongerThanTheLimitTravelInParts) {
  mpi::set_max_message_bytes(100);
  check_primitives(test_world().group());
  check_all_reduce<float>(test_world().group(), /*max_count=*/10000);
  mpi::set_max_message_bytes(std::size_t{1} << 30);
}

TEST(Mesh, SplitsTheWorldWithTensorRanksSideBySide) {
  World& world = test_world();
  const int size = world.group().size(), rank = world.group().rank();
  for (int tensor_size = 1; tensor_size <= size; ++tensor_size) {
    if (size % tensor_size != 0 || !std::has_single_bit(static_cast<unsigned>(size / tensor_size))) {
      EXPECT_THROW(make_mesh(world, tensor_size), Error);
      continue;
    }
    const Mesh mesh = make_mesh(world, tensor_size);
    EXPECT_EQ(mesh.tensor->size(), tensor_size);
    EXPECT_EQ(mesh.data->rank() * tensor_size + mesh.tensor->rank(), rank);
    EXPECT_EQ(mesh.tensor->world_rank(mesh.tensor->rank()), rank);
    check_scalars(*mesh.data);
    check_scalars(*mesh.tensor);
    check_all_reduce<float>(*mesh.tensor, /*max_count=*/10000);
  }
}

TEST(World, KnowsItsHost) {
  World& world = test_world();
  EXPECT_TRUE(world.launcher().is_launched);
  EXPECT_EQ(world.local_size(), world.group().size());
  EXPECT_EQ(world.launcher().local_rank, world.group().rank());
  EXPECT_GE(world.local_cpus(), 1);
}

}  // namespace
}  // namespace slipway
