// Ops that are recorded and queued at once, on the CUDA emulation: the same numbers, and never with memory that has
// moved.
#include "kernels/backend/graph_cache.hpp"

#include <gtest/gtest.h>

#include "kernels/cuda/cuda_stream.cuh"
#include "kernels/cuda/graph_capture.cuh"
#include "kernels/cuda/memory.cuh"
#include "kernels/cuda/ops.cuh"
#include "src/core/tensor.hpp"

namespace slipway {
namespace {

class RecordingsTest : public testing::Test {
 protected:
  RecordingsTest() : x(kSize, space), y(kSize, space) {
    cudaGetLastError();  // of a test that failed on purpose
    const std::vector<float> ones(kSize, 1.0f);
    space.write(x.data(), ones.data(), kSize * sizeof(float));
  }
  /// y += x, some times.
  void add(int times) {
    ++ran;
    for (int i = 0; i < times; ++i) cuda::add(stream, {x.span(), y.span()});
  }
  float first_of(const Buffer<float>& numbers) {
    float value = -1;
    space.read(&value, numbers.data(), sizeof value);
    return value;
  }

  static constexpr std::size_t kSize = 100;
  MemorySpace& space = cuda::memory();
  Stream stream;
  Buffer<float> x, y;
  int ran = 0;  // times that ops were queued one by one
  GraphCache graph_cache{cuda::graph_capture()};
};

TEST_F(RecordingsTest, TheThirdTimeNobodyAsksAgain) {
  for (int turn = 1; turn <= 5; ++turn) {
    graph_cache.run({1}, [this] { add(2); });
    EXPECT_EQ(first_of(y), 2.0f * static_cast<float>(turn));
    EXPECT_EQ(ran, std::min(turn, 2));
  }
  graph_cache.run({2}, [this] { add(1); });
  EXPECT_EQ(first_of(y), 11.0f) << "another key is another recording";
  EXPECT_EQ(ran, 3);
}

TEST_F(RecordingsTest, MemoryThatMovesIsFollowed) {
  Buffer<float> more;
  for (int turn = 0; turn < 9; ++turn) {
    if (turn % 3 == 0) more = Buffer<float>(100u * static_cast<unsigned>(turn + 1), space);
    graph_cache.run({1}, [this] { add(1); });
    EXPECT_EQ(first_of(y), static_cast<float>(turn + 1));
  }
  EXPECT_EQ(ran, 6) << "each time anew: once one by one, once to be recorded, once not at all";
}

TEST_F(RecordingsTest, AFailureLeavesTheStreamUsable) {
  graph_cache.run({1}, [this] { add(1); });
  EXPECT_THROW(graph_cache.run({1},
                               [this] {
                                 add(1);
                                 throw Error(Fault::kBug, "on purpose");
                               }),
               Error);
  EXPECT_EQ(first_of(y), 1.0f) << "what was recorded did not run";
  graph_cache.run({1}, [this] { add(1); });
  EXPECT_EQ(first_of(y), 2.0f);
}

TEST_F(RecordingsTest, MemoryIsNotTakenWhileOpsAreRecorded) {
  graph_cache.run({1}, [this] { add(1); });
  EXPECT_THROW(graph_cache.run({1}, [this] { const Buffer<float> late(100, space); }), Error);
  EXPECT_EQ(first_of(y), 1.0f);
}

TEST_F(RecordingsTest, WorkAsideIsRecordedWithTheRest) {
  const auto both = [this] {
    Stream side{&cuda::comm_stream()};
    cuda::add(stream, {x.span(), y.span()});
    cuda::wait_stream(cuda::comm_stream(), cuda::main_stream());
    cuda::add(side, {x.span(), y.span()});
    cuda::wait_stream(cuda::main_stream(), cuda::comm_stream());
    cuda::scale(stream, {y.span(), 2.0f});
  };
  float want = 0;
  for (int turn = 0; turn < 4; ++turn) {
    graph_cache.run({1}, both);
    want = 2 * (want + 2);
    EXPECT_EQ(first_of(y), want);
  }
}

TEST_F(RecordingsTest, WorkThatStaysAsideIsRefused) {
  const auto lost = [this] {
    cuda::wait_stream(cuda::comm_stream(), cuda::main_stream());
    cuda::add(stream, {x.span(), y.span()});
  };
  graph_cache.run({1}, lost);
  EXPECT_THROW(graph_cache.run({1}, lost), Error);
}

// Copies beside the ops.
TEST_F(RecordingsTest, SentNumbersComeBeforeWhatAsksForThemAndFetchedOnesAfter) {
  Buffer<float> staged(kSize, space.staging()), back(kSize, space.staging());
  for (std::size_t i = 0; i < kSize; ++i) staged[i] = 3.0f;
  const MemorySpace::Event sent =
      space.copy_to_device_async(x.data(), staged.data(), kSize * sizeof(float), space.record_event());
  cuda::add(stream, {x.span(), y.span()});
  const MemorySpace::Event fetched = space.copy_to_host_async(back.data(), y.data(), kSize * sizeof(float));
  space.stream_wait_event(fetched);
  cuda::scale(stream, {y.span(), 0.0f});
  space.wait_event(sent);
  space.wait_event(fetched);
  EXPECT_EQ(back[0], 3.0f);
  EXPECT_EQ(first_of(y), 0.0f);
}

TEST_F(RecordingsTest, AReservedBlockServesUntilItIsUsedUp) {
  space.reserve(1 << 20);
  const std::uint64_t before = space.peak_bytes();
  const auto* within = [&] {
    const Buffer<float> small(1000, space);
    return small.data();
  }();
  const Buffer<float> again(1000, space);
  EXPECT_EQ(again.data(), within);
  EXPECT_EQ(space.peak_bytes(), before);
  const Buffer<float> large(1 << 19, space);
  EXPECT_GT(space.peak_bytes(), before) << "what is too large has a block of its own";
}

}  // namespace
}  // namespace slipway
