// What this CPU can do.
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(_OPENMP)
#include <omp.h>
#endif

#include <array>
#include <cstring>

#include "kernels/backend/cpu_backend.hpp"
#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/parallel.hpp"

namespace slipway {
namespace {

#if defined(_OPENMP)
const int kOpenMpThreads = omp_get_max_threads();  // before a matmul sets it for its own thread
#endif

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

int cpu::max_threads(const Stream& stream) {
  if (stream.threads > 0) return stream.threads;
#if defined(_OPENMP)
  return kOpenMpThreads;
#else
  return 1;
#endif
}

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
#if defined(SLIPWAY_ONEDNN)
  features.native_bf16 = cpu::onednn_has_bf16();
#endif
  return features;
}

std::string describe_instructions(const Backend& backend) {
  if (!backend.memory->is_host()) return backend.instructions;
  std::string text = backend.instructions == std::string_view("base") ? SLIPWAY_ARCH : backend.instructions;
#if defined(SLIPWAY_ONEDNN)
  text += ", products " + cpu::onednn_instructions();
#endif
  return text;
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
