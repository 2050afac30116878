#include "kernels/instrument/device_peaks.hpp"

#include <algorithm>
#include <vector>

#include "src/core/clock.hpp"
#include "src/core/random.hpp"
#include "src/core/tensor.hpp"

namespace slipway {
namespace {

/// Seconds of `work` on the device after a warm-up run: the best of `runs`. Whenever a run is faster than all before,
/// `runs` more follow, kMaxRuns in total at most, so that a busy machine is measured in a quiet moment.
template <class Work>
double best_seconds(MemorySpace& space, int runs, const Work& work) {
  constexpr int kMaxRuns = 24;
  constexpr double kImprovement = 0.99;  // a difference within 1 % is noise
  double best_s = 1e9;
  for (int run = 0, last_run = runs; run <= last_run; ++run) {
    space.synchronize();
    const double begin_s = now_s();
    work();
    space.synchronize();
    const double seconds = now_s() - begin_s;
    if (run == 0) continue;
    if (run > 1 && seconds < kImprovement * best_s) last_run = std::min(kMaxRuns, run + runs);
    best_s = std::min(best_s, seconds);
  }
  return best_s;
}

}  // namespace

void fill_random(void* buffer, std::size_t bytes, MemorySpace& space) {
  constexpr std::size_t kPatternElements = std::size_t{1} << 18;
  const Random random(1, stream_of("train/machine_limit"));
  std::vector<Bf16> values(std::min(kPatternElements, bytes / sizeof(Bf16)));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = to_bf16(0.02f * random.normal(i));
  char* to = static_cast<char*>(buffer);
  std::size_t bytes_written = values.size() * sizeof(Bf16);
  space.write(to, values.data(), bytes_written);
  while (bytes_written < bytes) {
    const std::size_t count = std::min(bytes_written, bytes - bytes_written);
    space.copy(to + bytes_written, to, count);
    bytes_written += count;
  }
}

GemmPeak gemm_peak(const Backend& backend, DType compute_dtype) {
  constexpr int kMin = 256, kMax = 8192, kRuns = 3;
  constexpr double kMinDuration_s = 0.002;  // two CPU cores take it for 1024^3
  Stream stream = backend.main_stream();
  MemorySpace& space = *backend.memory;
  GemmPeak peak;
  double best_s = 0;
  for (int size = kMin; size <= kMax && best_s < kMinDuration_s; size *= 2) {
    const std::size_t elements = static_cast<std::size_t>(size) * static_cast<std::size_t>(size);
    constexpr std::size_t kBytesPerElement = 3 * sizeof(float) + 2 * sizeof(Bf16);
    if (!space.is_host() && size > kMin && elements * kBytesPerElement > space.free_bytes() / 4) break;
    Buffer<float> a(elements, space), b(elements, space), c(elements, space);
    Buffer<Bf16> a_bf16(elements, space), b_bf16(elements, space);
    MatMul op{.a = a.matrix(size, size), .b = b.matrix(size, size), .c = c.matrix(size, size), .transpose_b = true};
    if (compute_dtype == DType::kBf16) op.a = a_bf16.matrix(size, size), op.b = b_bf16.matrix(size, size);
    if (!space.is_host())  // a CPU takes the same time with zeros
      for (const ConstTensorView* operand : {&op.a, &op.b})
        fill_random(const_cast<void*>(operand->data), elements * bytes_of(operand->dtype), space);
    best_s = best_seconds(space, kRuns, [&] { backend.matmul(stream, op); });
    peak = {2.0 * size * size * size / best_s, size};
  }
  return peak;
}

double memory_bandwidth(const Backend& backend) {
  constexpr std::size_t kTargetElements = std::size_t{16} << 20;  // 64 MiB each: larger than the caches
  constexpr int kRuns = 3, kPasses = 8;                           // enough to hide launch and synchronization
  Stream stream = backend.main_stream();
  const std::size_t max_elements = backend.memory->free_bytes() / (4 * sizeof(float)),
                    elements = backend.memory->is_host() ? kTargetElements
                                                         : std::clamp<std::size_t>(max_elements, 1, kTargetElements);
  Buffer<float> x(elements, *backend.memory), y(elements, *backend.memory);
  const double best_s = best_seconds(*backend.memory, kRuns, [&] {
    for (int pass = 0; pass < kPasses; ++pass) backend.add(stream, {x.span(), y.span()});
  });
  return 3.0 * kPasses * sizeof(float) * static_cast<double>(elements) / best_s;
}

}  // namespace slipway
