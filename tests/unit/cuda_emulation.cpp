// The CUDA emulation itself: right kernels agree in every order, and each mistake that a GPU may hide is found.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "kernels/cuda/async_copy.cuh"
#include "kernels/cuda/cuda_stream.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/team.cuh"
#include "kernels/cuda/tensor_core.cuh"
#include "kernels/cuda_emulation/memory.hpp"

namespace slipway {
namespace {

using namespace cuda_emulation;
using cuda::launch;

const std::vector<ThreadOrder> kOrders = {{ThreadOrder::kAscending},
                                          {ThreadOrder::kDescending},
                                          {ThreadOrder::kShuffled, 1},
                                          {ThreadOrder::kShuffled, 2},
                                          {ThreadOrder::kShuffled, 3}};

/// Device memory for `count` elements.
template <class T>
class DeviceBuffer {
 public:
  explicit DeviceBuffer(std::size_t count) : count_(count) {
    cudaMalloc(reinterpret_cast<void**>(&data_), count * sizeof(T));
  }
  ~DeviceBuffer() { cudaFree(data_); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  T* data() const { return data_; }
  std::vector<T> read(const cuda::CudaStream& queue) const {
    std::vector<T> values(count_);
    cudaMemcpyAsync(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost, queue.stream());
    return values;
  }
  void write(const std::vector<T>& values, const cuda::CudaStream& queue) {
    cudaMemcpyAsync(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice, queue.stream());
  }

 private:
  std::size_t count_;
  T* data_ = nullptr;
};

class CudaOnHost : public testing::Test {
 protected:
  void TearDown() override {
    set_thread_order({ThreadOrder::kAscending});
    set_stream_order({StreamOrder::kLate});
  }
  template <class... Parameters, class... Arguments>
  void run(int blocks, int lanes, void (*kernel)(Parameters...), const Arguments&... arguments) {
    launch({.name = "kernel", .blocks = blocks, .threads = lanes}, kernel, queue.stream(), arguments...);
    queue.synchronize();
  }
  cuda::CudaStream queue;
};
using CudaOnHostDeathTest = CudaOnHost;

/// y[i] = x[the block's threads in reverse]: every thread reads what another one wrote.
template <bool kBarrier>
__global__ void reverse(const float* x, float* y) {
  SLIPWAY_SHARED(float, shared, 256);
  const unsigned first = blockIdx.x * blockDim.x;
  shared[threadIdx.x] = x[first + threadIdx.x];
  if (kBarrier) __syncthreads();
  y[first + threadIdx.x] = shared[blockDim.x - 1 - threadIdx.x];
}

TEST_F(CudaOnHost, ARightKernelAgreesInEveryOrder) {
  std::vector<float> x(768);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
  for (const ThreadOrder order : kOrders) {
    set_thread_order(order);
    DeviceBuffer<float> from(x.size()), to(x.size());
    from.write(x, queue);
    run(3, 256, reverse<true>, from.data(), to.data());
    const std::vector<float> actual = to.read(queue);
    for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(actual[i], x[i / 256 * 256 + 255 - i % 256]);
  }
}

TEST_F(CudaOnHost, AMissingBarrierShowsInEveryOrder) {
  const std::vector<float> x(256, 1.0f);
  for (const ThreadOrder order : kOrders) {
    set_thread_order(order);
    DeviceBuffer<float> from(x.size()), to(x.size());
    from.write(x, queue);
    run(1, 256, reverse<false>, from.data(), to.data());
    int mismatches = 0;
    for (const float value : to.read(queue)) mismatches += value != 1.0f ? 1 : 0;
    EXPECT_GT(mismatches, 50);
  }
}

__global__ void reductions(float* sums, float* maxima, unsigned* votes, int* shuffled_down) {
  const cuda::VectorizedTeam<cuda::BlockTeam<96>> block;
  const cuda::VectorizedTeam<cuda::TileTeam<cuda::kWarpSize>> warp;
  const float sum = block.sum(1000, [](int i) { return static_cast<float>(i); });
  const float max = warp.max(70, [](int i) { return static_cast<float>(i % 65); });
  const unsigned t = threadIdx.x;
  sums[t] = sum, maxima[t] = max;
  votes[t] = __ballot_sync(0xffffffffu, t % 3 == 0);
  shuffled_down[t] = __shfl_down_sync(0xffffffffu, static_cast<int>(t), 4);
}

TEST_F(CudaOnHost, CollectivesGiveWhatAGpuGives) {
  for (const ThreadOrder order : kOrders) {
    set_thread_order(order);
    DeviceBuffer<float> sums(96), maxima(96);
    DeviceBuffer<unsigned> votes(96);
    DeviceBuffer<int> shuffled_down(96);
    run(1, 96, reductions, sums.data(), maxima.data(), votes.data(), shuffled_down.data());
    for (unsigned t = 0; t < 96; ++t) {
      EXPECT_EQ(sums.read(queue)[t], 499500.0f);
      EXPECT_EQ(maxima.read(queue)[t], 64.0f);
      unsigned expected = 0;
      for (unsigned lane = 0; lane < 32; ++lane) expected |= (t / 32 * 32 + lane) % 3 == 0 ? 1u << lane : 0u;
      EXPECT_EQ(votes.read(queue)[t], expected);
      EXPECT_EQ(shuffled_down.read(queue)[t], static_cast<int>(t % 32 < 28 ? t + 4 : t));
    }
  }
}

__global__ void count_visits(int* visits) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned lane = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  ++visits[block * blockDim.x * blockDim.y * blockDim.z + lane];
}

TEST_F(CudaOnHost, BlocksAndGridsMayHaveThreeAxesAndPartialWarps) {
  DeviceBuffer<int> visits(2 * 3 * 2 * 5 * 2 * 3);
  cudaMemsetAsync(visits.data(), 0, 360 * sizeof(int), queue.stream());
  cuda::start_kernel("mark", count_visits, dim3(2, 3, 2), dim3(5, 2, 3), queue.stream(), visits.data());
  EXPECT_EQ(visits.read(queue), std::vector<int>(360, 1));
}

/// One tensor-core mma, its operands laid out as in the PTX manual (mma.m16n8k16: element i of a thread).
__global__ void tile_product(const float* a, const float* b, float* c) {
  const unsigned lane = threadIdx.x, group = lane >> 2, lane_in_group = lane % 4;
  std::uint32_t left[4], right[2];
  float sums[4];
  for (unsigned i = 0; i < 8; i += 2) {
    const unsigned row = i < 2 || (i >= 4 && i < 6) ? group : group + 8, col = lane_in_group * 2 + (i < 4 ? 0 : 8);
    left[i / 2] = cuda::pack_bf16(a[row * 16 + col], a[row * 16 + col + 1]);
  }
  for (unsigned i = 0; i < 4; i += 2) {
    const unsigned row = lane_in_group * 2 + (i < 2 ? 0 : 8);
    right[i / 2] = cuda::pack_bf16(b[row * 8 + group], b[(row + 1) * 8 + group]);
  }
  const auto index = [&](unsigned i) { return (i < 2 ? group : group + 8) * 8 + lane_in_group * 2 + i % 2; };
  for (unsigned i = 0; i < 4; ++i) sums[i] = c[index(i)];
  cuda::mma_m16n8k16(sums, left, right[0], right[1]);
  for (unsigned i = 0; i < 4; ++i) c[index(i)] = sums[i];
}

TEST_F(CudaOnHost, TensorCoresHoldTilesAsTheManualSays) {
  std::vector<float> a(16 * 16), b(16 * 8), c(16 * 8), expected(16 * 8);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(i % 13) - 6;  // exact in bf16
  for (std::size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(i % 7) - 3;
  for (std::size_t i = 0; i < c.size(); ++i) expected[i] = c[i] = static_cast<float>(i);
  for (std::size_t m = 0; m < 16; ++m)
    for (std::size_t n = 0; n < 8; ++n)
      for (std::size_t k = 0; k < 16; ++k) expected[m * 8 + n] += a[m * 16 + k] * b[k * 8 + n];
  DeviceBuffer<float> device_a(a.size()), device_b(b.size()), device_c(c.size());
  device_a.write(a, queue), device_b.write(b, queue), device_c.write(c, queue);
  run(1, 32, tile_product, device_a.data(), device_b.data(), device_c.data());
  EXPECT_EQ(device_c.read(queue), expected);
}

/// Four matrices of 8 x 8 whose elements are their indices, row by row.
template <bool kTransposed>
__global__ void load_matrix(std::uint32_t* out) {
  SLIPWAY_SHARED(uint4, memory, 32);  // 32 rows of 8 elements
  auto* rows = reinterpret_cast<Bf16*>(memory);
  for (unsigned i = threadIdx.x; i < 256; i += 32) rows[i].bits = static_cast<std::uint16_t>(i);
  __syncthreads();
  std::uint32_t pairs[4];
  if (kTransposed) cuda::ldmatrix_x4_trans(pairs, rows + 8 * threadIdx.x);
  else cuda::ldmatrix_x4(pairs, rows + 8 * threadIdx.x);
  for (unsigned i = 0; i < 4; ++i) out[4 * threadIdx.x + i] = pairs[i];
}

TEST_F(CudaOnHost, MatricesAreLoadedAsTheManualSays) {
  DeviceBuffer<std::uint32_t> device_pairs(128);
  run(1, 32, load_matrix<false>, device_pairs.data());
  const std::vector<std::uint32_t> plain = device_pairs.read(queue);
  run(1, 32, load_matrix<true>, device_pairs.data());
  const std::vector<std::uint32_t> transposed = device_pairs.read(queue);
  for (unsigned lane = 0; lane < 32; ++lane)
    for (unsigned i = 0; i < 4; ++i) {  // ldmatrix: thread l has row l / 4 and the elements 2 (l % 4) and the next
      const unsigned major = lane / 4, minor = lane % 4 * 2, first = 64 * i;
      EXPECT_EQ(plain[4 * lane + i], (first + 8 * major + minor) | (first + 8 * major + minor + 1) << 16);
      EXPECT_EQ(transposed[4 * lane + i], (first + 8 * minor + major) | (first + 8 * (minor + 1) + major) << 16);
    }
}

__global__ void early_leavers() {
  if (threadIdx.x >= 200) return;
  __syncthreads();
}
__global__ void mask_without_self() {
  if (threadIdx.x % 2 == 1) __syncwarp(0x55555555u);
}
__global__ void reads_outside_mask(int* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0x0000ffffu, 1, 20);
}
__global__ void names_exited_thread() {
  if (threadIdx.x == 0) return;
  __syncwarp();
}
__global__ void different_collectives() {
  if (threadIdx.x < 16) __syncwarp();
  else __ballot_sync(0xffffffffu, 1);
}
__global__ void different_barriers() {
  if (threadIdx.x < 32) __syncthreads();
  else __syncthreads();
}
__global__ void loads_misaligned() {
  SLIPWAY_SHARED(uint4, memory, 64);
  std::uint32_t pairs[4];
  cuda::ldmatrix_x4(pairs, reinterpret_cast<const Bf16*>(memory) + 1);
}
/// y = the block's first x, by way of shared memory that is copied into while threads go on.
template <bool kWaits, bool kBarrier>
__global__ void copy_first_half(const float* x, float* y) {
  SLIPWAY_SHARED(float, shared, 32);
  if (threadIdx.x < 8) cuda::cp_async<16>(shared + 4 * threadIdx.x, x + 4 * threadIdx.x, threadIdx.x < 4);
  cuda::cp_async_commit();
  cuda::cp_async_commit();  // an empty group behind it
  if (kWaits) cuda::cp_async_wait<1>();
  if (kBarrier) __syncthreads();
  y[threadIdx.x] = shared[threadIdx.x];
  __syncthreads();
  cuda::cp_async_wait<0>();
}
/// y = sums over tiles of x in reverse, each tile copied over the one before.
template <bool kBarrier>
__global__ void sum_tiles(const float* x, float* y) {
  SLIPWAY_SHARED(float, tile, 32);
  const unsigned t = threadIdx.x;
  float sum = 0;
  for (unsigned i = 0; i < 4; ++i) {
    cuda::cp_async<4>(tile + t, x + 32 * i + t);
    cuda::cp_async_commit();
    cuda::cp_async_wait<0>();
    __syncthreads();
    sum += tile[31 - t];
    if (kBarrier) __syncthreads();
  }
  y[t] = sum;
}
__global__ void copies_into_device_memory(float* x) { cuda::cp_async<4>(x, x + 1); }
__global__ void never_waits(const float* x) {
  SLIPWAY_SHARED(float, shared, 4);
  cuda::cp_async<4>(shared, x);
  cuda::cp_async_commit();
}
__global__ void copies_off_boundary(const float* x) {
  SLIPWAY_SHARED(uint4, shared, 4);
  cuda::cp_async<16>(shared, x + 1);
}

TEST_F(CudaOnHost, AsynchronousCopiesAreThereWhenTheyWereWaitedForAndNotBefore) {
  DeviceBuffer<float> x(32), y(32);
  std::vector<float> expected(32, 2.0f);
  x.write(expected, queue);
  std::fill(expected.begin() + 16, expected.end(), 0.0f);
  for (const ThreadOrder order : kOrders) {
    set_thread_order(order);
    run(1, 32, copy_first_half<true, true>, x.data(), y.data());
    EXPECT_EQ(y.read(queue), expected);
  }
  set_thread_order({ThreadOrder::kAscending});
  run(1, 32, copy_first_half<false, true>, x.data(), y.data());
  for (const float value : y.read(queue)) EXPECT_TRUE(std::isnan(value)) << "nobody has waited";
  set_thread_order({ThreadOrder::kDescending});
  run(1, 32, copy_first_half<true, false>, x.data(), y.data());
  EXPECT_NE(y.read(queue), expected) << "other threads' copies need a barrier";
}

TEST_F(CudaOnHost, ATileThatIsCopiedOverBeforeAllHaveReadItShows) {
  DeviceBuffer<float> x(128), y(32);
  std::vector<float> numbers(128), expected(32, 0.0f);
  for (std::size_t i = 0; i < 128; ++i) numbers[i] = static_cast<float>(i * i), expected[31 - i % 32] += numbers[i];
  x.write(numbers, queue);
  for (const ThreadOrder order : kOrders) {
    set_thread_order(order);
    run(1, 32, sum_tiles<true>, x.data(), y.data());
    EXPECT_EQ(y.read(queue), expected);
  }
  set_thread_order({ThreadOrder::kDescending});
  run(1, 32, sum_tiles<false>, x.data(), y.data());
  EXPECT_NE(y.read(queue), expected);
}

TEST_F(CudaOnHostDeathTest, BadAsynchronousCopiesAreCaught) {
  set_thread_order({ThreadOrder::kAscending});  // copies come late
  DeviceBuffer<float> x(32);
  EXPECT_DEATH(run(1, 1, never_waits, x.data()), "ends with asynchronous copies that nobody waited for");
  EXPECT_DEATH(run(1, 1, copies_off_boundary, x.data()), "no multiple of its size");
  EXPECT_DEATH(run(1, 1, copies_into_device_memory, x.data()), "elsewhere than into shared memory");
}

__global__ void writes_at(float* x, int i) { x[i] = 1.0f; }

__global__ void shuffles_within_halves(int* x) { x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, x[threadIdx.x], 1, 16); }

TEST_F(CudaOnHostDeathTest, KnownBadKernelsAreCaught) {
  DeviceBuffer<int> out(32);
  EXPECT_DEATH(run(1, 256, early_leavers), "kernel, block .*deadlock: 200 threads at __syncthreads .*, 56 have ended");
  EXPECT_DEATH(run(1, 32, mask_without_self), "does not name the thread that calls");
  EXPECT_DEATH(run(1, 32, reads_outside_mask, out.data()), "reads from a thread outside its mask");
  EXPECT_DEATH(run(1, 32, names_exited_thread), "names a thread that has left");
  EXPECT_DEATH(run(1, 20, different_collectives), "names a thread that the block does not have");
  EXPECT_DEATH(run(1, 32, different_collectives), "met in different collectives");
  EXPECT_DEATH(run(1, 64, different_barriers), "wait at different barriers");
  EXPECT_DEATH(run(1, 32, loads_misaligned), "16-byte boundary");
  EXPECT_DEATH(run(1, 2048, count_visits, out.data()), "no more than 1024 threads");
  EXPECT_DEATH(run(1, 0, count_visits, out.data()), "a launch of nothing");
  EXPECT_DEATH(run(1, 32, shuffles_within_halves, out.data()), "within parts of a warp");
}

__global__ void reads_a_pack(const float* x) { const cuda::Pack<const float*> pack(x, 0); }
__global__ void writes_a_pack(float* x) {
  cuda::Pack<WriteOnly<float>> pack(write_only(x), 0);
  for (int k = 0; k < cuda::kPack; ++k) pack.element(k) = 1.0f;
}

TEST_F(CudaOnHostDeathTest, PacksOffAWordBoundaryAreCaught) {
  DeviceBuffer<float> x(32);
  run(1, 1, reads_a_pack, x.data() + 4);
  run(1, 1, writes_a_pack, x.data() + 4);
  EXPECT_DEATH(run(1, 1, reads_a_pack, x.data() + 1), "off its boundary");
  EXPECT_DEATH(run(1, 1, writes_a_pack, x.data() + 2), "off its boundary");
}

TEST_F(CudaOnHostDeathTest, WritesBeyondAnAllocationAreCaught) {
  EXPECT_DEATH(
      {
        DeviceBuffer<float> x(33);
        run(1, 1, writes_at, x.data(), 33);
      },
      "beyond the end of 132 bytes|AddressSanitizer: use-after-poison");
}

TEST_F(CudaOnHostDeathTest, TheHostMayNotTouchDeviceMemory) {
  DeviceBuffer<float> x(4);
  EXPECT_DEATH(x.data()[0] = 1.0f, "the host touched device memory");
}

/// Two values that look like an address, and a pointer inside a struct argument of a kernel.
struct KernelArgument {
  std::int32_t rows = 8, columns = 32000, height = 8, width = 24576;
  const float* x = nullptr;
};
__global__ void copies_from(KernelArgument argument, float* y) { y[threadIdx.x] = argument.x[threadIdx.x]; }

TEST_F(CudaOnHostDeathTest, AKernelMayNotBeGivenMemoryOfTheHost) {
  DeviceBuffer<float> y(1);
  const std::vector<float> heap(1, 2.0f);
  const float stack = 2.0f;
  for (const float* x : {heap.data(), &stack})
    EXPECT_DEATH(run(1, 1, copies_from, KernelArgument{.x = x}, y.data()),
                 "argument of kernel holds 0x.* that a GPU cannot reach");
  float* pinned = nullptr;
  ASSERT_EQ(cudaMallocHost(reinterpret_cast<void**>(&pinned), sizeof(float)), cudaSuccess);
  *pinned = 2.0f;
  run(1, 1, copies_from, KernelArgument{.x = pinned}, y.data());
  EXPECT_EQ(y.read(queue), heap);
  cudaFreeHost(pinned);
}

TEST_F(CudaOnHostDeathTest, NothingRunsInTheDefaultStream) {
  EXPECT_DEATH(cudaMemsetAsync(DeviceBuffer<float>(4).data(), 0, 16, nullptr), "a stream of its own");
}

__global__ void fill(float* x, float value) { x[threadIdx.x] = value; }
__global__ void copy(const float* x, float* y) { y[threadIdx.x] = x[threadIdx.x]; }

/// Whether all of y has the 2 that another stream wrote into x.
bool copy_sees_fill(bool with_event, StreamOrder order) {
  set_stream_order(order);
  cuda::CudaStream first, second;
  DeviceBuffer<float> x(32), y(32);
  cudaEvent_t written = nullptr;
  cudaEventCreateWithFlags(&written, cudaEventDisableTiming);
  launch({.name = "fill", .blocks = 1, .threads = 32}, fill, first.stream(), x.data(), 2.0f);
  cudaEventRecord(written, first.stream());
  if (with_event) cudaStreamWaitEvent(second.stream(), written, 0);
  launch({.name = "copy", .blocks = 1, .threads = 32}, copy, second.stream(), x.data(), y.data());
  const std::vector<float> actual = y.read(second);
  cudaEventDestroy(written);
  return actual == std::vector<float>(32, 2.0f);
}

TEST_F(CudaOnHost, UseBeforeAnEventShows) {
  EXPECT_FALSE(copy_sees_fill(false, {StreamOrder::kLate}));
  int mismatches = 0;
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    mismatches += copy_sees_fill(false, {StreamOrder::kShuffled, seed}) ? 0 : 1;
    EXPECT_TRUE(copy_sees_fill(true, {StreamOrder::kShuffled, seed}));
  }
  EXPECT_GT(mismatches, 0);
  EXPECT_TRUE(copy_sees_fill(true, {StreamOrder::kLate}));
  EXPECT_TRUE(copy_sees_fill(true, {StreamOrder::kEager}));
}

TEST_F(CudaOnHost, WhatAnotherStreamHasNotBroughtBackIsNoGraph) {
  DeviceBuffer<float> x(32);
  cuda::CudaStream side;
  const auto work = [&] { launch({.name = "fill", .blocks = 1, .threads = 32}, fill, side.stream(), x.data(), 1.0f); };
  for (const bool work_after_join : {false, true}) {
    ASSERT_EQ(cudaStreamBeginCapture(queue.stream(), cudaStreamCaptureModeThreadLocal), cudaSuccess);
    cuda::wait_stream(side, queue);
    work();
    cuda::wait_stream(queue, side);
    if (work_after_join) work();
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(queue.stream(), &graph),
              work_after_join ? cudaErrorStreamCaptureUnjoined : cudaSuccess);
    cudaGraphDestroy(graph);
  }
  cudaGetLastError();
}

TEST_F(CudaOnHost, APinnedBufferReusedBeforeItsCopyShows) {
  DeviceBuffer<float> x(1);
  float* pinned = nullptr;
  cudaMallocHost(reinterpret_cast<void**>(&pinned), sizeof(float));
  *pinned = 1.0f;
  cudaMemcpyAsync(x.data(), pinned, sizeof(float), cudaMemcpyHostToDevice, queue.stream());
  *pinned = 2.0f;  // too early
  EXPECT_EQ(x.read(queue)[0], 2.0f);
  float pageable = 3.0f;
  cudaMemcpyAsync(x.data(), &pageable, sizeof(float), cudaMemcpyHostToDevice, queue.stream());
  pageable = 4.0f;  // in time
  EXPECT_EQ(x.read(queue)[0], 3.0f);
  cudaFreeHost(pinned);
}

TEST_F(CudaOnHost, ErrorsAreThoseOfTheRuntime) {
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, device_use().total + 1), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  DeviceBuffer<float> x(4);
  float host = 0;
  EXPECT_EQ(cudaMemcpyAsync(&host, x.data(), 4, cudaMemcpyHostToDevice, queue.stream()),
            cudaErrorInvalidMemcpyDirection);
  EXPECT_EQ(cudaMemcpyAsync(x.data(), &host, 20, cudaMemcpyHostToDevice, queue.stream()), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(&host), cudaErrorInvalidValue);
  EXPECT_EQ(cudaSetDevice(1), cudaErrorInvalidDevice);
}

TEST_F(CudaOnHost, FreshMemoryIsNaNAndFreedMemoryComesBack) {
  const std::size_t before = device_use().allocated;
  for (int round = 0; round < 3; ++round) {
    DeviceBuffer<float> x(1000), y(1);
    for (const float value : x.read(queue)) EXPECT_TRUE(std::isnan(value));
    EXPECT_EQ(device_use().allocated, before + 4004);
  }
  EXPECT_EQ(device_use().allocated, before);
}

}  // namespace
}  // namespace slipway
