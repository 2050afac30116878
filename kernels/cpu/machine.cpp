// What this CPU can do, and how many of its threads we take.
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(_OPENMP)
#include <omp.h>
#endif

#include <array>
#include <atomic>
#include <cstring>

#include "kernels/backend/cpu_backend.hpp"
#include "kernels/cpu/ops.hpp"

namespace slipway {
namespace {

std::atomic<int>& thread_count() {
#if defined(_OPENMP)
  static std::atomic<int> count = omp_get_max_threads();
#else
  static std::atomic<int> count = 1;
#endif
  return count;
}

#if defined(__x86_64__)
/// The brand string of leaves 0x80000002 to 0x80000004, without the blanks around it.
std::string cpu_model() {
  std::array<unsigned, 12> words{};
  unsigned highest = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(0x80000000u, &highest, &b, &c, &d) == 0 || highest < 0x80000004u) return "x86-64";
  for (unsigned leaf = 0; leaf < 3; ++leaf) {
    unsigned* word = words.data() + 4 * leaf;
    __get_cpuid(0x80000002u + leaf, word, word + 1, word + 2, word + 3);
  }
  std::array<char, sizeof(words) + 1> text{};
  std::memcpy(text.data(), words.data(), sizeof(words));
  const std::string model = text.data();
  const std::size_t first = model.find_first_not_of(' '), last = model.find_last_not_of(' ');
  return first == std::string::npos ? "x86-64" : model.substr(first, last - first + 1);
}
#endif

}  // namespace

void set_threads(int count) {
  require(count >= 1, "set_threads: at least one thread is needed");
  thread_count() = count;
}

int threads() { return thread_count().load(std::memory_order_relaxed); }

CpuFeatures cpu_features() {
  CpuFeatures features;
#if defined(__x86_64__)
  constexpr unsigned kAmxBf16 = 1u << 22;  // leaf 7, subleaf 0, edx; Intel SDM, volume 2, CPUID
  features.model = cpu_model();
  features.avx2 = __builtin_cpu_supports("avx2") != 0;
  features.avx512 = __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0;
  features.avx512_bf16 = __builtin_cpu_supports("avx512bf16") != 0;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) != 0) features.amx_bf16 = (d & kAmxBf16) != 0;
#else
  features.model = "not x86-64";
#endif
  features.instructions = cpu_backend().instructions == std::string("base") ? SLIPWAY_ARCH : cpu_backend().instructions;
#if defined(SLIPWAY_ONEDNN)
  features.native_bf16 = cpu::onednn_has_bf16();
  features.instructions += ", products " + cpu::onednn_instructions();
#endif
  return features;
}

bool matmuls_are_signal_safe() {
#if defined(SLIPWAY_ONEDNN)
  return cpu::onednn_is_signal_safe();
#else
  return true;
#endif
}

std::string gemm_library_version() {
#if defined(SLIPWAY_ONEDNN)
  return cpu::onednn_version();
#else
  return "plain loops";
#endif
}

}  // namespace slipway
