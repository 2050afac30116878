#include "src/core/tensor.hpp"

#include <sys/mman.h>

#include <algorithm>

namespace slipway {

void* aligned_block(std::size_t alignment, std::size_t bytes) {
  constexpr std::size_t kHugePage = std::size_t{2} << 20;
  if (bytes < 2 * kHugePage) return std::aligned_alloc(alignment, bytes);
  // The size stays what was asked for: what lies behind the last whole huge page keeps small ones.
  void* block = nullptr;
  if (posix_memalign(&block, kHugePage, bytes) != 0) return nullptr;
  madvise(block, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);  // a wish: systems without them go on with small pages
  return block;
}

void zero_block(void* block, std::size_t bytes) {
  constexpr std::size_t kPart = std::size_t{16} << 20;
  const auto parts = static_cast<std::int64_t>((bytes + kPart - 1) / kPart);
  if (parts == 1) {
    std::memset(block, 0, bytes);
    return;
  }
#pragma omp parallel for schedule(static)
  for (std::int64_t part = 0; part < parts; ++part) {
    const std::size_t first = static_cast<std::size_t>(part) * kPart;
    std::memset(static_cast<char*>(block) + first, 0, std::min(kPart, bytes - first));
  }
}

}  // namespace slipway
