#include "kernels/backend/cpu_backend.hpp"

#include <algorithm>
#include <cstdlib>

#include "kernels/cpu/ops.hpp"

namespace slipway {
namespace {

/// Whether SLIPWAY_INSTRUCTIONS leaves this CPU a set of instructions: by `base` or `avx512` it has no more than that.
/// For tests, which hold oneDNN by ONEDNN_MAX_CPU_ISA beside it.
bool is_allowed(std::string_view set) {
  constexpr std::string_view kInstructionSets[] = {"base", "avx512", "avx512_bf16"};
  const char* max_set = std::getenv("SLIPWAY_INSTRUCTIONS");
  if (max_set == nullptr || *max_set == '\0') return true;
  const auto last = std::ranges::find(kInstructionSets, std::string_view(max_set));
  if (last == std::end(kInstructionSets))
    throw Error(Fault::kConfig,
                join("SLIPWAY_INSTRUCTIONS is ", max_set, "; expected base, avx512 or avx512_bf16, or leave it unset"));
  return std::ranges::find(kInstructionSets, set) <= last;
}

/// The backends of one build.
struct CpuBackends {
  std::vector<Backend> all;              ///< by rising instruction set, then the plain loops
  std::vector<const Backend*> pointers;  ///< to all of them
  std::size_t sets = 0;                  ///< how many of them are for users; the rest is for tests

  CpuBackends() {
    const auto add = [&](Backend backend) {
#if defined(SLIPWAY_ONEDNN)
      backend.gemm_library = "onednn";
      // Not by asking oneDNN: it takes no limit (limit_onednn) any more once it was asked.
      backend.native_bf16 = backend.instructions == std::string_view("avx512_bf16");
#else
      backend.gemm_library = "loops";
#endif
      all.push_back(backend);
    };
    is_allowed("base");  // whose value is checked on every CPU
    add(cpu::backend_base());
#if defined(SLIPWAY_AVX512)
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl");
    if (avx512 && is_allowed("avx512")) add(cpu::backend_avx512());
    if (avx512 && __builtin_cpu_supports("avx512bf16") && is_allowed("avx512_bf16")) add(cpu::backend_avx512_bf16());
#endif
    sets = all.size();
#if defined(SLIPWAY_ONEDNN)
    Backend loops = all.front();
    loops.gemm_library = "loops";
    loops.matmul = cpu::matmul_loops;
    all.push_back(loops);
#endif
    for (const Backend& backend : all) pointers.push_back(&backend);
  }
};

const CpuBackends& cpu_backends() {
  static const CpuBackends backends;
  return backends;
}

}  // namespace

std::span<const Backend* const> all_backends() { return cpu_backends().pointers; }

std::vector<std::string_view> instruction_sets() {
  std::vector<std::string_view> sets = {"auto"};
  for (std::size_t i = 0; i < cpu_backends().sets; ++i) sets.emplace_back(cpu_backends().all[i].instructions);
  return sets;
}

const Backend& cpu_backend(std::string_view instructions) {
  const CpuBackends& backends = cpu_backends();
  const std::vector<std::string_view> sets = instruction_sets();
  const auto found = std::ranges::find(sets, instructions);
  constexpr std::string_view kKnown[] = {"auto", "base", "avx512", "avx512_bf16"};
  if (found == sets.end()) {
    std::string known;
    for (const std::string_view set : sets) known += join(known.empty() ? "" : ", ", set);
    throw Error(std::ranges::find(kKnown, instructions) == std::end(kKnown) ? Fault::kConfig : Fault::kDevice,
                join("runtime.instructions = ", instructions, " cannot run here; this CPU and build have: ", known));
  }
  const std::size_t index =
      instructions == "auto" ? backends.sets - 1 : static_cast<std::size_t>(found - sets.begin()) - 1;
  return *backends.pointers[index];
}

}  // namespace slipway
