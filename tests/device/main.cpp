// The frame of the kernels' tests on a real GPU. They hand kernels whatever memory they have, so the heap and the stack
// that they run on are registered with CUDA, and the GPU reads and writes them where they are.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <pthread.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace {

constexpr std::size_t kHeapBytes = std::size_t{2} << 30, kStackBytes = std::size_t{64} << 20;

/// Everything that is allocated from now on lies in one registered range.
bool register_heap() {
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);
  auto* first = static_cast<char*>(sbrk(0));
  std::free(std::malloc(kHeapBytes));
  auto* last = static_cast<char*>(sbrk(0));
  return cudaHostRegister(first, static_cast<std::size_t>(last - first),
                          cudaHostRegisterMapped | cudaHostRegisterPortable) == cudaSuccess;
}

void* run_tests(void* status) {
  *static_cast<int*>(status) = RUN_ALL_TESTS();
  return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  int direct = 0, status = 1;
  if (cudaFree(nullptr) != cudaSuccess ||
      cudaDeviceGetAttribute(&direct, cudaDevAttrCanUseHostPointerForRegisteredMem, 0) != cudaSuccess) {
    std::fputs("there is no GPU that can be used\n", stderr);
    return 6;
  }
  if (direct == 0 || !register_heap()) {
    std::fputs("this GPU cannot use the host's memory where it is, which these tests need\n", stderr);
    return 6;
  }
  testing::InitGoogleTest(&argc, argv);  // asks for the tables
  void* stack = nullptr;
  if (posix_memalign(&stack, 4096, kStackBytes) != 0) return 1;
  pthread_attr_t attributes;
  pthread_t thread;
  pthread_attr_init(&attributes);
  pthread_attr_setstack(&attributes, stack, kStackBytes);
  if (pthread_create(&thread, &attributes, run_tests, &status) != 0) return 1;
  pthread_join(thread, nullptr);
  return status;
}
