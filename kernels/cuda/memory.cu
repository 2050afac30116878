#include "kernels/cuda/memory.cuh"

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <utility>

#include "kernels/cuda/cuda_stream.cuh"
#include "src/core/allocation_tag.hpp"
#include "src/core/first_fit_allocator.hpp"

namespace slipway::cuda {
namespace {

/// One reserved block of device memory that allocations are carved from.
struct Arena {
  char* base = nullptr;
  std::size_t size = 0;
  FirstFitAllocator allocator{0};
  bool contains(const void* block) const { return block >= base && block < base + size; }
};

/// The GPU memory of this process.
struct MemoryState {
  Arena arena;
  std::map<void*, std::size_t> blocks;  // bytes of each cudaMalloc block, the arena's included, by address
  std::uint64_t bytes = 0;              // sum of `blocks`
  std::uint64_t peak = 0;               // maximum of used()
  std::uint64_t generation = 0;

  /// Bytes in use; of the arena, the bytes up to its high-water mark.
  std::uint64_t used() const { return bytes - arena.size + arena.allocator.high_water(); }
  void update_peak() { peak = std::max(peak, used()); }
};
MemoryState& memory_state() {
  static MemoryState& instance = *new MemoryState;  // never destroyed: memory is freed as late as the program's end
  return instance;
}

std::string mebibytes(std::uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f MiB", static_cast<double>(bytes) / (1 << 20));
  return text;
}

[[noreturn]] void throw_out_of_memory(const std::string& what, std::size_t bytes) {
  cudaGetLastError();  // clears the error, which is reported here
  std::size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  throw Error(
      Fault::kDevice,
      join("out of GPU memory for ", what, ": ", mebibytes(bytes), " are asked for, where ", mebibytes(free), " of ",
           mebibytes(total), " are free and this process holds ", mebibytes(memory_state().bytes),
           memory_state().arena.base != nullptr
               ? "; lower train.micro_batch, or set train.recompute = blocks (slipway plan counts what a run needs)"
               : "; take --numerics.compute bf16, fewer tokens at once, or --device cpu"));
}

/// Allocates a block with cudaMalloc.
void* allocate_block(const std::string& what, std::size_t bytes) {
  void* block = nullptr;
  const cudaError_t error = cudaMalloc(&block, bytes);
  if (error == cudaErrorMemoryAllocation) throw_out_of_memory(what, bytes);
  check("cudaMalloc", error);
  MemoryState& state = memory_state();
  state.blocks[block] = bytes;
  state.bytes += bytes;
  return block;
}

/// Pinned host memory, which the GPU copies by DMA at the full speed of the bus.
class PinnedMemory final : public HostSpace {
 public:
  void* allocate(std::size_t bytes) override {
    void* block = nullptr;
    if (cudaMallocHost(&block, bytes) != cudaSuccess) {
      cudaGetLastError();
      throw Error(Fault::kDevice, join("out of memory: ", bytes,
                                       " bytes of host memory cannot be pinned for copies "
                                       "to and from the GPU; free some, or raise the limit of locked memory"));
    }
    zero(block, bytes);
    return block;
  }
  void deallocate(void* block) noexcept override { cudaFreeHost(block); }
};

class DeviceMemory final : public MemorySpace {
 public:
  bool is_host() const override { return false; }

  void* allocate(std::size_t bytes) override {
    void* block = allocate_uninitialized(AllocationTag::current(), bytes);
    zero(block, bytes);
    // The first use in any stream reads zeros.
    wait_stream(copy_stream(), main_stream()), wait_stream(comm_stream(), main_stream());
    return block;
  }
  void deallocate(void* block) noexcept override { cuda::deallocate(block); }

  void zero(void* block, std::size_t bytes) override {
    check("cudaMemsetAsync", cudaMemsetAsync(block, 0, bytes, stream()));
  }
  /// CUDA has read pageable memory when the call returns, except on GPUs that access host pages directly.
  void write(void* to, const void* from, std::size_t bytes) override {
    check("copy to the GPU", cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream()));
    if (reads_host_pages()) synchronize();
  }
  /// A copy to pageable memory blocks inside CUDA, where lost peers are not detected: pending work is waited for first.
  void read(void* to, const void* from, std::size_t bytes) override {
    synchronize();
    check("copy from the GPU", cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream()));
    synchronize();
  }
  void copy(void* to, const void* from, std::size_t bytes) override {
    check("copy on the GPU", cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream()));
  }
  void synchronize() override { main_stream().synchronize(); }

  Event record_event() override { return event_pool().record(main_stream()); }
  void wait_event(Event event) override { event_pool().synchronize(event); }
  void stream_wait_event(Event event) override { event_pool().stream_wait(main_stream(), event); }
  Event copy_to_device_async(void* to, const void* staged, std::size_t bytes, Event after) override {
    event_pool().stream_wait(copy_stream(), after);
    check("copy to the GPU", cudaMemcpyAsync(to, staged, bytes, cudaMemcpyHostToDevice, copy_stream().stream()));
    const Event copied = event_pool().record(copy_stream());
    stream_wait_event(copied);
    return copied;
  }
  Event copy_to_host_async(void* staged, const void* from, std::size_t bytes) override {
    event_pool().stream_wait(copy_stream(), record_event());
    check("copy from the GPU", cudaMemcpyAsync(staged, from, bytes, cudaMemcpyDeviceToHost, copy_stream().stream()));
    return event_pool().record(copy_stream());
  }
  MemorySpace& staging() override {
    static MemorySpace& instance = *new PinnedMemory;  // never destroyed: memory is freed as late as the program's end
    return instance;
  }
  void reserve(std::uint64_t bytes) override {
    Arena& arena = memory_state().arena;
    if (!arena.allocator.empty()) return;
    main_stream().release();
    char* old_base = std::exchange(arena, {}).base;
    cuda::deallocate(old_base);
    arena = {static_cast<char*>(allocate_block("the run's planned memory", bytes)), bytes, FirstFitAllocator(bytes)};
    memory_state().update_peak();
  }
  /// Excludes what the driver and the libraries allocate later: graphs, connections, code that is loaded lazily.
  std::uint64_t free_bytes() const override {
    constexpr std::size_t kLibraryReserve = kIsEmulated ? 0 : std::size_t{512} << 20;
    std::size_t free = 0, total = 0;
    check("cudaMemGetInfo", cudaMemGetInfo(&free, &total));
    return free - std::min(free, kLibraryReserve);
  }
  std::uint64_t peak_bytes() const override { return memory_state().peak; }
  void trim_and_reset_peak() override {
    main_stream().release();
    memory_state().arena.allocator.reset_high_water();
    memory_state().peak = memory_state().used();
  }

 private:
  static cudaStream_t stream() { return main_stream().stream(); }
  static bool reads_host_pages() {
    static const bool reads = [] {
      int device = 0, value = 0;
      check("cudaGetDevice", cudaGetDevice(&device));
      check("cudaDeviceGetAttribute",
            cudaDeviceGetAttribute(&value, cudaDevAttrPageableMemoryAccessUsesHostPageTables, device));
      return value != 0;
    }();
    return reads;
  }
};

}  // namespace

void* allocate_uninitialized(const std::string& what, std::size_t bytes) {
  MemoryState& state = memory_state();
  ++state.generation;
  const auto offset = state.arena.allocator.allocate(bytes);
  void* block = offset ? state.arena.base + *offset : allocate_block(what, bytes);
  state.update_peak();
  return block;
}

/// cudaFree waits for pending work, which may use the block. Memory of the arena can be reused at once: its next use is
/// queued after its last one.
void deallocate(void* block) noexcept {
  MemoryState& state = memory_state();
  if (state.arena.contains(block)) {
    try_wait_stream(main_stream(), copy_stream()), try_wait_stream(main_stream(), comm_stream());
    state.arena.allocator.deallocate(static_cast<std::size_t>(static_cast<char*>(block) - state.arena.base));
    ++state.generation;
    return;
  }
  const auto found = state.blocks.find(block);
  if (found == state.blocks.end()) return;
  state.bytes -= found->second;
  ++state.generation;
  state.blocks.erase(found);
  cudaFree(block);
}

std::uint64_t memory_generation() { return memory_state().generation; }

MemorySpace& memory() {
  static MemorySpace& instance = *new DeviceMemory;  // never destroyed: memory is freed as late as the program's end
  return instance;
}

}  // namespace slipway::cuda
