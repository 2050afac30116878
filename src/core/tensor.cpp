#include "src/core/tensor.hpp"

#include <sys/mman.h>

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

}  // namespace slipway
