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

class GraphCacheTest : public testing::Test {
 protected:
  GraphCacheTest() : x(kSize, space), y(kSize, space) {
    cudaGetLastError();  // of a test that failed on purpose
    const std::vector<float> ones(kSize, 1.0f);
    space.write(x.data(), ones.data(), kSize * sizeof(float));
  }
  /// y += x, some times.
  void add(int times) {
    ++num_calls;
    for (int i = 0; i < times; ++i) cuda::add(stream, {x.span(), y.span()});
  }
  float first_value(const Buffer<float>& numbers) {
    float value = -1;
    space.read(&value, numbers.data(), sizeof value);
    return value;
  }

  static constexpr std::size_t kSize = 100;
  MemorySpace& space = cuda::memory();
  Stream stream;
  Buffer<float> x, y;
  int num_calls = 0;  // times that ops were queued one by one
  GraphCache graph_cache{cuda::graph_capture()};
};

TEST_F(GraphCacheTest, TheThirdTimeNobodyAsksAgain) {
  for (int iteration = 1; iteration <= 5; ++iteration) {
    graph_cache.run({1}, [this] { add(2); });
    EXPECT_EQ(first_value(y), 2.0f * static_cast<float>(iteration));
    EXPECT_EQ(num_calls, std::min(iteration, 2));
  }
  graph_cache.run({2}, [this] { add(1); });
  EXPECT_EQ(first_value(y), 11.0f) << "another key is another recording";
  EXPECT_EQ(num_calls, 3);
}

TEST_F(GraphCacheTest, MemoryThatMovesIsFollowed) {
  Buffer<float> buffer;
  for (int iteration = 0; iteration < 9; ++iteration) {
    if (iteration % 3 == 0) buffer = Buffer<float>(100u * static_cast<unsigned>(iteration + 1), space);
    graph_cache.run({1}, [this] { add(1); });
    EXPECT_EQ(first_value(y), static_cast<float>(iteration + 1));
  }
  EXPECT_EQ(num_calls, 6) << "each time anew: once one by one, once to be recorded, once not at all";
}

TEST_F(GraphCacheTest, AFailureLeavesTheStreamUsable) {
  graph_cache.run({1}, [this] { add(1); });
  EXPECT_THROW(graph_cache.run({1},
                               [this] {
                                 add(1);
                                 throw Error(Fault::kBug, "on purpose");
                               }),
               Error);
  EXPECT_EQ(first_value(y), 1.0f) << "what was recorded did not run";
  graph_cache.run({1}, [this] { add(1); });
  EXPECT_EQ(first_value(y), 2.0f);
}

TEST_F(GraphCacheTest, MemoryIsNotTakenWhileOpsAreRecorded) {
  graph_cache.run({1}, [this] { add(1); });
  EXPECT_THROW(graph_cache.run({1}, [this] { const Buffer<float> buffer(100, space); }), Error);
  EXPECT_EQ(first_value(y), 1.0f);
}

TEST_F(GraphCacheTest, WorkAsideIsRecordedWithTheRest) {
  const auto work_on_both_streams = [this] {
    Stream side{&cuda::comm_stream()};
    cuda::add(stream, {x.span(), y.span()});
    cuda::wait_stream(cuda::comm_stream(), cuda::main_stream());
    cuda::add(side, {x.span(), y.span()});
    cuda::wait_stream(cuda::main_stream(), cuda::comm_stream());
    cuda::scale(stream, {y.span(), 2.0f});
  };
  float expected = 0;
  for (int iteration = 0; iteration < 4; ++iteration) {
    graph_cache.run({1}, work_on_both_streams);
    expected = 2 * (expected + 2);
    EXPECT_EQ(first_value(y), expected);
  }
}

TEST_F(GraphCacheTest, WorkThatStaysAsideIsRefused) {
  const auto unjoined_work = [this] {
    cuda::wait_stream(cuda::comm_stream(), cuda::main_stream());
    cuda::add(stream, {x.span(), y.span()});
  };
  graph_cache.run({1}, unjoined_work);
  EXPECT_THROW(graph_cache.run({1}, unjoined_work), Error);
}

// Copies beside the ops.
TEST_F(GraphCacheTest, SentNumbersComeBeforeWhatAsksForThemAndFetchedOnesAfter) {
  Buffer<float> sent_values(kSize, space.staging()), fetched_values(kSize, space.staging());
  for (std::size_t i = 0; i < kSize; ++i) sent_values[i] = 3.0f;
  const MemorySpace::Event sent_event =
      space.copy_to_device_async(x.data(), sent_values.data(), kSize * sizeof(float), space.record_event());
  cuda::add(stream, {x.span(), y.span()});
  const MemorySpace::Event fetched_event =
      space.copy_to_host_async(fetched_values.data(), y.data(), kSize * sizeof(float));
  space.stream_wait_event(fetched_event);
  cuda::scale(stream, {y.span(), 0.0f});
  space.wait_event(sent_event);
  space.wait_event(fetched_event);
  EXPECT_EQ(fetched_values[0], 3.0f);
  EXPECT_EQ(first_value(y), 0.0f);
}

TEST_F(GraphCacheTest, AReservedBlockServesUntilItIsUsedUp) {
  space.reserve(1 << 20);
  const std::uint64_t before = space.peak_bytes();
  const auto* first_address = [&] {
    const Buffer<float> small(1000, space);
    return small.data();
  }();
  const Buffer<float> second(1000, space);
  EXPECT_EQ(second.data(), first_address);
  EXPECT_EQ(space.peak_bytes(), before);
  const Buffer<float> large(1 << 19, space);
  EXPECT_GT(space.peak_bytes(), before) << "what is too large has a block of its own";
}

}  // namespace
}  // namespace slipway
