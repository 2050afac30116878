#include "kernels/table.hpp"

#include <array>

#include "kernels/cpu/ops.hpp"

namespace slipway {
namespace {

constexpr KernelTable cpu_table(const char* name, const char* products, void (*matmul)(Stream&, const MatMul&)) {
  return {
      .name = name,
      .products = products,
      .matmul = matmul,
      .rms_norm = cpu::rms_norm,
      .rms_norm_grad = cpu::rms_norm_grad,
      .rope = cpu::rope,
      .swiglu = cpu::swiglu,
      .swiglu_grad = cpu::swiglu_grad,
      .attention = cpu::attention,
      .attention_grad = cpu::attention_grad,
      .softmax_shares = cpu::softmax_shares,
      .cross_entropy_grad = cpu::cross_entropy_grad,
      .embedding = cpu::embedding,
      .embedding_grad = cpu::embedding_grad,
      .add = cpu::add,
      .scale = cpu::scale,
      .add_bias = cpu::add_bias,
      .bias_grad = cpu::bias_grad,
      .to_bf16 = cpu::to_bf16,
      .adamw = cpu::adamw,
      .sum_squares = cpu::sum_squares,
      .first_non_finite = cpu::first_non_finite,
  };
}

#if defined(SLIPWAY_ONEDNN)
constexpr KernelTable kCpu = cpu_table("cpu", "onednn", cpu::matmul_onednn);
constexpr KernelTable kCpuLoops = cpu_table("cpu-loops", "loops", cpu::matmul_loops);
constexpr std::array<const KernelTable*, 2> kTables = {&kCpu, &kCpuLoops};
#else
constexpr KernelTable kCpu = cpu_table("cpu", "loops", cpu::matmul_loops);
constexpr std::array<const KernelTable*, 1> kTables = {&kCpu};
#endif

}  // namespace

const KernelTable& cpu_kernels() { return kCpu; }
std::span<const KernelTable* const> all_tables() { return kTables; }

}  // namespace slipway
