// Groups of threads: every collective, every size, and ranks that fail or never join.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "comm/launcher_info.hpp"
#include "comm/mesh.hpp"
#include "comm/watchdog.hpp"
#include "comm/world.hpp"
#include "src/core/error.hpp"
#include "tests/ranks/comm_checks.hpp"

namespace slipway {
namespace {

class ThreadGroupTest : public testing::TestWithParam<int> {};

TEST_P(ThreadGroupTest, PrimitivesMoveEveryByteToItsPlace) { run_thread_group(GetParam(), check_primitives); }
TEST_P(ThreadGroupTest, ScalarsTextsAndAgreementAreTheSameOnAllRanks) { run_thread_group(GetParam(), check_scalars); }
TEST_P(ThreadGroupTest, SumsEqualTheTreeToTheBit) {
  run_thread_group(GetParam(), [](Group& group) { check_all_reduce<float>(group); });
  run_thread_group(GetParam(), [](Group& group) { check_all_reduce<double>(group); });
}
TEST_P(ThreadGroupTest, SumsMatchDoublePrecision) { run_thread_group(GetParam(), check_sum_against_f64); }
INSTANTIATE_TEST_SUITE_P(Sizes, ThreadGroupTest, testing::Values(1, 2, 3, 4, 5, 8));

TEST(ReduceScatter, LeavesTheTreeSumInTheOwnedPieceAndTheGatherBringsItBack) {
  for (const int size : {1, 2, 4, 8}) run_thread_group(size, check_reduce_scatter);
}

TEST(ReduceScatter, OwnedRangesCoverEverythingOnceAndTheLowestBitChoosesTheHalf) {
  EXPECT_EQ(Group::shard_range(8, 1, 4).first, 4u);  // rank 1 keeps the upper half, then its lower quarter
  EXPECT_EQ(Group::shard_range(8, 2, 4).first, 2u);
  for (const int size : {1, 2, 4, 8, 16}) {
    std::vector<int> owners(48);
    for (int r = 0; r < size; ++r) {
      const Group::Range shard = Group::shard_range(owners.size(), r, size);
      for (std::size_t i = shard.first; i < shard.first + shard.count; ++i) ++owners[i];
    }
    EXPECT_EQ(owners, std::vector<int>(48, 1)) << size << " ranks";
  }
}

TEST(ReduceScatter, RefusesCountsThatDoNotDivideAndRanksThatAreNoPowerOfTwo) {
  EXPECT_THROW(Group::shard_range(10, 0, 4), Error);
  EXPECT_THROW(Group::shard_range(9, 0, 3), Error);
}

TEST(ThreadGroup, RethrowsTheFirstErrorAndFreesTheOthersFromTheirWait) {
  std::atomic<int> freed = 0;
  const auto work = [&](Group& group) {
    if (group.rank() == 2) throw Error(Fault::kNumeric, "rank 2 has had enough");
    try {
      for (;;) group.barrier();
    } catch (const Error& error) {
      EXPECT_EQ(error.fault(), Fault::kComm);
      EXPECT_NE(std::string(error.what()).find("rank 2 has had enough"), std::string::npos);
      ++freed;
      throw;
    }
  };
  try {
    run_thread_group(4, work);
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kNumeric);
  }
  EXPECT_EQ(freed, 3);
}

TEST(ThreadGroup, FreesRanksThatWaitInAGroupOfTheMesh) {
  const auto work = [](Group& group) {
    const Mesh mesh = make_thread_mesh(group, /*tensor_size=*/2);
    if (group.rank() == 3) throw Error(Fault::kDevice, "gone");
    std::vector<float> x(100000, 1.0f);
    for (;;) mesh.data->all_reduce_sum(x);
  };
  EXPECT_THROW(run_thread_group(4, work), Error);
}

TEST(ThreadGroup, NoticesRanksThatDisagreeAboutTheCount) {
  const auto work = [](Group& group) {
    char bytes[2] = {};
    group.broadcast(bytes, group.rank() == 0 ? 1 : 2, 0);
  };
  EXPECT_THROW(run_thread_group(2, work), Error);
}

TEST(Mesh, PutsTensorRanksSideBySide) {
  run_thread_group(8, [](Group& group) {
    for (const int tensor_size : {1, 2, 4, 8}) {
      const Mesh mesh = make_thread_mesh(group, tensor_size);
      EXPECT_EQ(mesh.tensor->size(), tensor_size);
      EXPECT_EQ(mesh.data->size(), 8 / tensor_size);
      EXPECT_EQ(mesh.data->rank() * tensor_size + mesh.tensor->rank(), group.rank());
      EXPECT_EQ(mesh.tensor->world_rank(0), mesh.data->rank() * tensor_size);
      check_scalars(*mesh.data);
      check_scalars(*mesh.tensor);
    }
  });
}

TEST(Mesh, TakesTensorSizesThatAreNoPowerOfTwo) {
  run_thread_group(6, [](Group& group) {
    const Mesh mesh = make_thread_mesh(group, 3);
    check_primitives(*mesh.tensor);
    check_all_reduce<float>(*mesh.tensor);
  });
}

std::string refusal(int ranks, int tensor_size) {
  try {
    check_mesh(ranks, tensor_size);
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kConfig);
    return error.what();
  }
  return "";
}

TEST(Mesh, RefusesSizesThatCannotBeWithTheRemedy) {
  EXPECT_EQ(refusal(4, 2), "");
  EXPECT_EQ(refusal(1, 2),
            "mesh.tensor is 2 but the run has 1 rank: start 2 ranks (launch/run -n 2), or set mesh.tensor to 1");
  EXPECT_EQ(
      refusal(6, 4),
      "mesh.tensor is 4 but the run has 6 ranks: start 8 ranks (launch/run -n 8), or set mesh.tensor to 1, 2, 3 or 6");
  EXPECT_NE(refusal(6, 1).find("start 4 or 8 ranks"), std::string::npos);
  EXPECT_NE(refusal(6, 2).find("make 3 data ranks, which is no power of two"), std::string::npos);
  EXPECT_NE(refusal(4, 0), "");
}

TEST(World, WithoutALauncherIsAGroupOfOneAndStartsNoMpi) {
  for (const char* variable : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_STEP_NUM_TASKS"}) unsetenv(variable);
  World world;
  EXPECT_FALSE(world.launcher().is_launched);
  EXPECT_FALSE(mpi_running());
  EXPECT_EQ(world.group().size(), 1);
  EXPECT_EQ(world.split(3, 0, Reduction::kCanonical)->size(), 1);
  EXPECT_GE(world.local_cpus(), 1);
  EXPECT_EQ(world.local_size(), 1);
}

TEST(LauncherInfo, KnowsMpirunAndSrunAndIsNotFooledByABatchScript) {
  for (const char* variable : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_STEP_NUM_TASKS"}) unsetenv(variable);
  setenv("SLURM_PROCID", "3", 1);
  EXPECT_FALSE(launcher_info().is_launched);
  setenv("SLURM_STEP_NUM_TASKS", "8", 1);
  EXPECT_EQ(launcher_info().name, "srun");
  EXPECT_EQ(launcher_info().rank, 3);
  EXPECT_EQ(launcher_info().size, 8);
  setenv("OMPI_COMM_WORLD_RANK", "1", 1);  // mpirun inside an allocation
  setenv("OMPI_COMM_WORLD_SIZE", "2", 1);
  setenv("PMIX_NAMESPACE", "job", 1);
  EXPECT_EQ(launcher_info().name, "mpirun");
  EXPECT_EQ(launcher_info().rank, 1);
  EXPECT_EQ(launcher_info().size, 2);
  for (const char* variable :
       {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "PMIX_NAMESPACE"})
    unsetenv(variable);
}

TEST(LauncherInfo, VariablesThatALauncherHasLeftBehindAreNoLauncher) {
  for (const char* variable : {"PMIX_NAMESPACE", "PMIX_SERVER_TMPDIR", "SLURM_STEP_NUM_TASKS"}) unsetenv(variable);
  setenv("OMPI_COMM_WORLD_RANK", "5", 1);  // set by hand: there is no PMIx server
  EXPECT_FALSE(launcher_info().is_launched);
  EXPECT_EQ(launcher_info().stale_variable, "OMPI_COMM_WORLD_RANK");
  setenv("PMIX_NAMESPACE", "job", 1);  // a shell that outlived the job it was started in
  setenv("PMIX_SERVER_TMPDIR", "/nonexistent/session", 1);
  EXPECT_FALSE(launcher_info().is_launched);
  setenv("PMIX_SERVER_TMPDIR", "/tmp", 1);
  EXPECT_TRUE(launcher_info().is_launched);
  EXPECT_EQ(launcher_info().stale_variable, "");
  unsetenv("OMPI_COMM_WORLD_RANK");
  unsetenv("PMIX_SERVER_TMPDIR");
  setenv("PMIX_RANK", "3", 1);  // srun --mpi=pmix
  EXPECT_EQ(launcher_info().name, "srun");
  unsetenv("PMIX_NAMESPACE");
  EXPECT_FALSE(launcher_info().is_launched);
  unsetenv("PMIX_RANK");
  setenv("SLURM_PROCID", "3", 1);  // srun without PMIx
  setenv("SLURM_STEP_NUM_TASKS", "4", 1);
  setenv("SLURM_TASK_PID", std::to_string(getpid()).c_str(), 1);
  EXPECT_TRUE(launcher_info().is_launched);
  setenv("SLURM_TASK_PID", "2000000000", 1);  // of a task that has ended
  EXPECT_FALSE(launcher_info().is_launched);
  EXPECT_EQ(launcher_info().stale_variable, "SLURM_PROCID");
  for (const char* variable : {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_TASK_PID"}) unsetenv(variable);
  EXPECT_EQ(launcher_info().stale_variable, "");
}

using WatchdogDeathTest = testing::Test;

TEST(WatchdogDeathTest, NamesTheRankTheCallTheStepAndThePeerThatIsMissing) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto run_stuck = [] {
    start_watchdog(0.5);
    set_watchdog_note("step 17");
    run_thread_group(2, [](Group& group) {
      if (group.rank() == 1) std::this_thread::sleep_for(std::chrono::seconds(30));
      std::vector<float> x(100000);
      group.all_reduce_sum(x);
    });
  };
  EXPECT_EXIT(run_stuck(), testing::ExitedWithCode(5),
              "slipway: error \\(comm\\): rank 0 waits for [0-9]+ s in all_reduce_sum \\(step 17\\) and hears nothing "
              "from rank 1");
}

TEST(Watchdog, LetsRanksComputeAsLongAsTheyLikeAndGroupsThatMoveGoOn) {
  constexpr auto kTimeout = std::chrono::seconds(5);  // a busy machine may delay a rank by some of them
  constexpr auto kPause = std::chrono::milliseconds(500);
  constexpr auto kLongSleep =
      kTimeout + 3 * kPause;  // rank 1's timeout is 5.25 s, and the watchdog checks once a second
  start_watchdog(std::chrono::duration<double>(kTimeout).count());
  std::jthread compute_thread([&] {
    run_thread_group(2, [&](Group& group) {
      group.barrier();
      std::this_thread::sleep_for(kLongSleep);
    });
  });
  run_thread_group(2, [&](Group& group) {
    for (auto elapsed = 0 * kPause; elapsed < kLongSleep; elapsed += kPause) {
      if (group.rank() == 0) std::this_thread::sleep_for(kPause);
      group.barrier();  // where rank 1 is at every check of the watchdog
    }
  });
  compute_thread.join();
  start_watchdog(0);
}

}  // namespace
}  // namespace slipway
