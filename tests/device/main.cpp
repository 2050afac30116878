// main() of the backend's tests on a real GPU. The tests pass heap and stack memory to kernels, so both are registered
// with CUDA, and the GPU accesses them in place.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <pthread.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

namespace {

constexpr std::size_t kHeapBytes = std::size_t{2} << 30, kStackBytes = std::size_t{64} << 20;

struct Heap {
  char *first = nullptr, *last = nullptr;
  bool contains(const void* memory) const { return memory >= first && memory < last; }
};

/// The whole heap, including memory that will be allocated later.
Heap make_heap() {
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);
  void* volatile block = std::malloc(kHeapBytes);  // volatile: or the compiler leaves both calls out
  std::free(block);
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    void *first = nullptr, *last = nullptr;
    if (line.ends_with("[heap]") && std::sscanf(line.c_str(), "%p-%p", &first, &last) == 2)
      return {static_cast<char*>(first), static_cast<char*>(sbrk(0))};
  }
  return {};
}

/// Whether small and large allocations lie in it.
bool backs_allocations(const Heap& heap) {
  for (std::size_t bytes = 16; bytes <= kHeapBytes / 4; bytes *= 2) {
    const std::vector<char> numbers(bytes);
    if (!heap.contains(numbers.data()) || !heap.contains(numbers.data() + bytes - 1)) return false;
  }
  return true;
}

void* run_tests(void* status) {
  *static_cast<int*>(status) = RUN_ALL_TESTS();
  return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  const Heap heap = make_heap();
  if (!backs_allocations(heap)) {
    std::fputs("numbers do not lie in the heap as these tests need it: they are for glibc\n", stderr);
    return 1;
  }
  int host_pointer_supported = 0, status = 1;
  if (cudaFree(nullptr) != cudaSuccess ||
      cudaDeviceGetAttribute(&host_pointer_supported, cudaDevAttrCanUseHostPointerForRegisteredMem, 0) != cudaSuccess) {
    std::fputs("there is no GPU that can be used\n", stderr);
    return 6;
  }
  if (host_pointer_supported == 0 ||
      cudaHostRegister(heap.first, static_cast<std::size_t>(heap.last - heap.first),
                       cudaHostRegisterMapped | cudaHostRegisterPortable) != cudaSuccess) {
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
