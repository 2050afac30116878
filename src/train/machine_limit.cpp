#include "src/train/machine_limit.hpp"

#include <algorithm>

#include "src/core/clock.hpp"
#include "src/core/tensor.hpp"

namespace slipway {

ProductPeak product_peak(const KernelTable& kernels, DType compute) {
  constexpr int kLeast = 256, kMost = 8192, kRuns = 3;
  constexpr double kLong_s = 0.002;  // two CPU cores take it for 1024^3
  Stream stream;
  MemorySpace& space = *kernels.memory;
  ProductPeak peak;
  double best_s = 0;
  for (int size = kLeast; size <= kMost && best_s < kLong_s; size *= 2) {
    const std::size_t elements = static_cast<std::size_t>(size) * static_cast<std::size_t>(size);
    constexpr std::size_t kBytesAnElement = 3 * sizeof(float) + 2 * sizeof(Bf16);
    if (!space.is_host() && size > kLeast && elements * kBytesAnElement > space.free_bytes() / 4) break;
    Buffer<float> a(elements, space), b(elements, space), c(elements, space);
    Buffer<Bf16> narrow_a(elements, space), narrow_b(elements, space);
    MatMul product{
        .a = a.matrix(size, size), .b = b.matrix(size, size), .c = c.matrix(size, size), .transpose_b = true};
    if (compute == DType::kBf16) product.a = narrow_a.matrix(size, size), product.b = narrow_b.matrix(size, size);
    best_s = 1e9;
    for (int run = 0; run <= kRuns; ++run) {
      space.wait();
      const double begin_s = now_s();
      kernels.matmul(stream, product);
      space.wait();
      if (run > 0) best_s = std::min(best_s, now_s() - begin_s);  // the first one warms up
    }
    peak = {2.0 * size * size * size / best_s, size};
  }
  return peak;
}

double memory_bandwidth(const KernelTable& kernels) {
  constexpr std::size_t kElements = std::size_t{16} << 20;  // 64 MiB each: beyond any cache
  constexpr int kRuns = 4;
  Stream stream;
  Buffer<float> x(kElements, *kernels.memory), y(kElements, *kernels.memory);
  double best_s = 1e9;
  for (int run = 0; run < kRuns; ++run) {
    const double begin_s = now_s();
    kernels.add(stream, {x.span(), y.span()});
    kernels.memory->wait();
    if (run > 0) best_s = std::min(best_s, now_s() - begin_s);  // the first one warms up
  }
  return 3.0 * sizeof(float) * static_cast<double>(kElements) / best_s;
}

}  // namespace slipway
