#include "kernels/instrument/meta_backend.hpp"

#include <array>
#include <map>

#include "kernels/backend/device.hpp"
#include "kernels/instrument/cost.hpp"
#include "kernels/scratch.hpp"
#include "src/core/allocation_tag.hpp"

namespace slipway {
namespace {

Counts& mutable_counts() {
  static Counts all;
  return all;
}

DType operand_dtype(const MatMul& op) { return op.a.dtype; }
DType operand_dtype(const Attention& op) { return op.q_NHK.dtype; }
DType operand_dtype(const AttentionGrad& op) { return op.q_NHK.dtype; }
template <class Op>
DType operand_dtype(const Op&) {
  return DType::kF32;
}

std::map<std::array<std::int64_t, 9>, MatMul>& seen_gemms() {
  static std::map<std::array<std::int64_t, 9>, MatMul> all;
  return all;
}
void record_gemm(const MatMul& op) {
  seen_gemms().try_emplace({op.a.rows, op.a.cols, op.c.rows, op.c.cols, op.a.stride, op.b.stride, op.c.stride,
                            (op.transpose_a ? 8 : 0) + (op.transpose_b ? 4 : 0) + (op.accumulate ? 2 : 0) +
                                (op.residual.data != nullptr ? 1 : 0),
                            2 * static_cast<int>(op.a.dtype) + static_cast<int>(op.c.dtype)},
                           op);
}
template <class Op>
void record_gemm(const Op&) {}

// Memory that ops of a device share, as the CUDA backend allocates it.
Buffer<char> scratch, workspace;

/// The old buffer is freed before a larger one is allocated, as there.
void reserve(Buffer<char>& buffer, std::size_t bytes) {
  if (bytes <= buffer.size()) return;
  const AllocationTag tag(MemoryKind::kWorkspace, "the workspace of ops");
  buffer = {};
  buffer = Buffer<char>(bytes, meta_memory(/*on_host=*/false));
}

template <bool kIsHost, class Op>
void count(const Op& op, const char* op_name) {
  record_gemm(op);
  if constexpr (!kIsHost) {
    reserve(scratch, scratch_bytes(op));
    if (uses_library_gemm(op)) reserve(workspace, kGemmWorkspaceBytes);
  }
  Counts::Row& row = mutable_counts().rows[{name_of(op, op_name), operand_dtype(op)}];
  const profile::Cost cost = cost_of(op, meta_memory(kIsHost));
  ++row.calls;
  row.cost.flops += cost.flops;
  row.cost.bytes += cost.bytes;
}

template <bool kIsHost>
Backend make_meta_backend() {
  Backend backend{.name = "counted",
                  .instructions = "none",
                  .gemm_library = "none",
                  .device = "none",
                  .native_bf16 = true,
                  .memory = &meta_memory(kIsHost)};
#define SLIPWAY_OP(op_name, Op) backend.op_name = [](Stream&, const Op& op) { count<kIsHost>(op, #op_name); };
  SLIPWAY_EACH_OP(SLIPWAY_OP)
#undef SLIPWAY_OP
  return backend;
}

}  // namespace

const Backend& meta_backend(bool on_host) {
  static const Backend host = make_meta_backend<true>(), device = make_meta_backend<false>();
  return on_host ? host : device;
}

MetaMemory& meta_memory(bool on_host) {
  // Never destroyed, for whoever frees memory when the program ends.
  static MetaMemory &host = *new MetaMemory(true), &device = *new MetaMemory(false);
  return on_host ? host : device;
}

void reset_meta_memory(bool on_host) {
  if (!on_host) scratch = {}, workspace = {};
  meta_memory(on_host).trim_and_reset_peak();
}

const Counts& counts() { return mutable_counts(); }
void reset_counts() {
  mutable_counts() = {};
  seen_gemms().clear();
}
std::vector<MatMul> counted_gemms() {
  std::vector<MatMul> all;
  for (const auto& [key, op] : seen_gemms()) all.push_back(op);
  return all;
}

}  // namespace slipway
