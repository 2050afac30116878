#include "kernels/cuda/memory.cuh"

#include "kernels/cuda/queue.cuh"

namespace slipway::cuda {
namespace {

constexpr double kGiB = 1 << 30;

class DeviceMemory final : public MemorySpace {
 public:
  bool is_host() const override { return false; }

  void* take(std::size_t bytes) override {
    void* block = nullptr;
    if (cudaMalloc(&block, bytes) == cudaErrorMemoryAllocation) refuse(bytes);
    check("cudaMalloc", cudaGetLastError());
    zero(block, bytes);
    return block;
  }
  /// The driver waits for what is under way, which may use the block.
  void give_back(void* block) noexcept override { cudaFree(block); }

  void zero(void* block, std::size_t bytes) override {
    check("cudaMemsetAsync", cudaMemsetAsync(block, 0, bytes, stream()));
  }
  /// The runtime has read pageable memory when it returns.
  void write(void* to, const void* from, std::size_t bytes) override {
    check("copy to the GPU", cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream()));
  }
  void read(void* to, const void* from, std::size_t bytes) override {
    check("copy from the GPU", cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream()));
    wait();
  }
  void copy(void* to, const void* from, std::size_t bytes) override {
    check("copy on the GPU", cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream()));
  }
  void wait() override { main_queue().finish(); }

 private:
  static cudaStream_t stream() { return main_queue().stream(); }

  [[noreturn]] static void refuse(std::size_t bytes) {
    cudaGetLastError();  // it is told here
    std::size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    throw Error(Fault::kDevice,
                join("out of GPU memory: asked for ", static_cast<double>(bytes) / kGiB, " GiB where ",
                     static_cast<double>(free) / kGiB, " of ", static_cast<double>(total) / kGiB,
                     " GiB are free; lower train.micro_batch or train.sequence, or set train.recompute = on"));
  }
};

}  // namespace

MemorySpace& memory() {
  static MemorySpace& only = *new DeviceMemory;  // for whoever gives memory back when the program ends
  return only;
}

}  // namespace slipway::cuda
