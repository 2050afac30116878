// Groups over GPU memory give the same bits as groups of MPI ranks: with NCCL, and staged through the host.
#include <gtest/gtest.h>

#include "comm/host_staged_group.hpp"
#include "comm/nccl_group.hpp"
#include "kernels/backend/cpu_backend.hpp"
#include "kernels/backend/device.hpp"
#include "kernels/backend/graph_cache.hpp"
#include "kernels/cuda_emulation/nccl.hpp"
#include "kernels/cuda_emulation/streams.hpp"
#include "tests/ranks/comm_checks.hpp"
#include "tests/support/ranks_main.hpp"

namespace slipway {
namespace {

/// Runs the same checks for each kind of group.
class CudaGroups : public testing::TestWithParam<const char*> {
 protected:
  const Backend& backend = backend_for("cuda");
  Group& host = test_world().group();
  std::unique_ptr<Group> group =
      GetParam() == std::string("nccl") ? make_nccl_group(host, backend) : make_staged_group(host, backend);
};

TEST_P(CudaGroups, PrimitivesMoveEveryByteToItsPlace) {
  EXPECT_STREQ(group->name(), GetParam());
  check_primitives(*group);
}
TEST_P(CudaGroups, SumsMatchDoublePrecision) { check_sum_against_f64(*group); }
TEST_P(CudaGroups, SumsEqualTheTreeToTheBit) { check_all_reduce<float>(*group); }
TEST_P(CudaGroups, ReduceScatterLeavesTheTreeSumInTheOwnedPiece) {
  if (std::has_single_bit(static_cast<unsigned>(group->size()))) check_reduce_scatter(*group);
}

INSTANTIATE_TEST_SUITE_P(Kinds, CudaGroups, testing::Values("nccl", "staged"));

TEST(CudaGroup, RanksWithGpusOfTheirOwnUseNccl) {
  Group& host = test_world().group();
  Group& group = host.for_backend(backend_for("cuda"));
  EXPECT_STREQ(group.name(), host.size() == 1 ? "staged" : "nccl");
  EXPECT_EQ(&group, &host.for_backend(backend_for("cuda"))) << "made once";
  EXPECT_EQ(&host, &host.for_backend(cpu_backend()));
}

TEST(CudaGroup, SubsetsOfTheWorldFormGroupsInAnyOrder) {
  World& world = test_world();
  const int rank = world.group().rank(), size = world.group().size();
  for (int tensor_size = 1; tensor_size <= size; tensor_size *= 2) {
    if (size % tensor_size != 0) continue;
    const auto strided = world.split(/*color=*/rank % tensor_size, /*key=*/-rank, Reduction::kCanonical),
               contiguous = world.split(/*color=*/rank / tensor_size, /*key=*/rank, Reduction::kCanonical);
    check_all_reduce<float>(strided->for_backend(backend_for("cuda")), /*max_count=*/10000);
    check_all_reduce<float>(contiguous->for_backend(backend_for("cuda")), /*max_count=*/10000);
  }
}

TEST(CudaGroup, RanksThatShareAGpuTakeTheWayOverTheHost) {
  Backend backend = backend_for("cuda");
  DeviceCollectives collectives = *backend.collectives;
  collectives.gpu_uuid = [] { return std::string("the one GPU"); };
  backend.collectives = &collectives;
  EXPECT_FALSE(nccl_available(test_world().group(), backend));
}

TEST(CudaGroup, AHostWithoutNcclMakesAllRanksTakeTheWayOverTheHost) {
  Backend backend = backend_for("cuda");
  Group& host = test_world().group();
  if (host.rank() == host.size() - 1) backend.collectives = nullptr;
  EXPECT_FALSE(nccl_available(host, backend));
}

/// NCCL destroys a communicator only when no graph uses it; graphs are dropped when the error is reported. This must be
/// the last test, since it destroys the communicators of this process.
TEST(CudaGroup, ALostPeerIsToldWhileItsMessagesAreRecorded) {
  const Backend& backend = backend_for("cuda");
  MemorySpace& space = *backend.memory;
  cuda_emulation::set_stream_order({cuda_emulation::StreamOrder::kLate});  // so that work is pending
  const auto group = make_nccl_group(test_world().group(), backend);
  Buffer<float> x(64, space);
  GraphCache graph_cache{backend.graph_capture};
  for (int iteration = 0; iteration < 3; ++iteration) graph_cache.run({1}, [&] { group->all_reduce_sum(x.span()); });
  space.synchronize();
  cuda_emulation::inject_peer_loss();
  for (int i = 0; i < 500; ++i) space.zero(x.data(), sizeof(float));  // for the host to wait for
  try {
    space.synchronize();
    FAIL() << "nothing was told";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kComm);
    EXPECT_NE(std::string(error.what()).find("NCCL has lost a peer: remote process exited"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace slipway
