#include "kernels/cuda/memory.cuh"

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>

#include "kernels/cuda/queue.cuh"

namespace slipway::cuda {
namespace {

/// Bytes by where they begin.
struct Taken {
  std::map<void*, std::size_t> pieces;
  std::uint64_t bytes = 0, peak = 0;
};
Taken& taken() {
  static Taken& only = *new Taken;  // for whoever gives memory back when the program ends
  return only;
}

std::string mebibytes(std::uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f MiB", static_cast<double>(bytes) / (1 << 20));
  return text;
}

[[noreturn]] void refuse(const char* what, std::size_t bytes) {
  cudaGetLastError();  // it is told here
  std::size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  throw Error(
      Fault::kDevice,
      join("out of GPU memory: ", what, " asks for ", mebibytes(bytes), " where ", mebibytes(free), " of ",
           mebibytes(total), " are free and this process holds ", mebibytes(taken().bytes),
           "; to train, lower train.micro_batch or set train.recompute = on (slipway plan counts what a run needs); "
           "to read a model, take --numerics.compute bf16 or --device cpu"));
}

/// The host's memory, fixed in place, so that the GPU copies by itself at the bus's full speed.
class PinnedMemory final : public HostSpace {
 public:
  void* take(std::size_t bytes) override {
    void* block = nullptr;
    if (cudaMallocHost(&block, bytes) != cudaSuccess) {
      cudaGetLastError();
      throw Error(Fault::kDevice, join("out of memory: ", bytes,
                                       " bytes of the host's memory cannot be pinned for copies "
                                       "to and from the GPU; free some, or raise the limit of locked memory"));
    }
    zero(block, bytes);
    return block;
  }
  void give_back(void* block) noexcept override { cudaFreeHost(block); }
};

class DeviceMemory final : public MemorySpace {
 public:
  bool is_host() const override { return false; }

  void* take(std::size_t bytes) override {
    void* block = take_as_it_is("a buffer", bytes);
    zero(block, bytes);
    return block;
  }
  void give_back(void* block) noexcept override { cuda::give_back(block); }

  void zero(void* block, std::size_t bytes) override {
    check("cudaMemsetAsync", cudaMemsetAsync(block, 0, bytes, stream()));
  }
  /// The runtime has read pageable memory when it returns.
  void write(void* to, const void* from, std::size_t bytes) override {
    check("copy to the GPU", cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream()));
  }
  /// CUDA waits inside a copy to pageable memory, where nobody looks after lost peers: so it finds nothing to wait for.
  void read(void* to, const void* from, std::size_t bytes) override {
    wait();
    check("copy from the GPU", cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream()));
    wait();
  }
  void copy(void* to, const void* from, std::size_t bytes) override {
    check("copy on the GPU", cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream()));
  }
  void wait() override { main_queue().finish(); }
  MemorySpace& staging() override {
    static MemorySpace& only = *new PinnedMemory;  // for whoever gives memory back when the program ends
    return only;
  }
  std::uint64_t free_bytes() const override {
    std::size_t free = 0, total = 0;
    check("cudaMemGetInfo", cudaMemGetInfo(&free, &total));
    return free;
  }
  std::uint64_t peak_bytes() const override { return taken().peak; }
  void start_anew() override {
    main_queue().release();
    taken().peak = taken().bytes;
  }

 private:
  static cudaStream_t stream() { return main_queue().stream(); }
};

}  // namespace

void* take_as_it_is(const char* what, std::size_t bytes) {
  void* block = nullptr;
  const cudaError_t error = cudaMalloc(&block, bytes);
  if (error == cudaErrorMemoryAllocation) refuse(what, bytes);
  check("cudaMalloc", error);
  Taken& all = taken();
  all.pieces[block] = bytes;
  all.bytes += bytes;
  all.peak = std::max(all.peak, all.bytes);
  return block;
}

/// The driver waits for what is under way, which may use the block.
void give_back(void* block) noexcept {
  Taken& all = taken();
  const auto found = all.pieces.find(block);
  if (found == all.pieces.end()) return;
  all.bytes -= found->second;
  all.pieces.erase(found);
  cudaFree(block);
}

MemorySpace& memory() {
  static MemorySpace& only = *new DeviceMemory;  // for whoever gives memory back when the program ends
  return only;
}

}  // namespace slipway::cuda
