#include "kernels/instrument/shape_only.hpp"

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

DType product_type(const MatMul& op) { return op.a.dtype; }
DType product_type(const Attention& op) { return op.q_NHK.dtype; }
DType product_type(const AttentionGrad& op) { return op.q_NHK.dtype; }
template <class Op>
DType product_type(const Op&) {
  return DType::kF32;
}

std::map<std::array<std::int64_t, 9>, MatMul>& products_met() {
  static std::map<std::array<std::int64_t, 9>, MatMul> all;
  return all;
}
void meet(const MatMul& op) {
  products_met().try_emplace({op.a.rows, op.a.cols, op.c.rows, op.c.cols, op.a.stride, op.b.stride, op.c.stride,
                              (op.transpose_a ? 8 : 0) + (op.transpose_b ? 4 : 0) + (op.accumulate ? 2 : 0) +
                                  (op.addend.data != nullptr ? 1 : 0),
                              2 * static_cast<int>(op.a.dtype) + static_cast<int>(op.c.dtype)},
                             op);
}
template <class Op>
void meet(const Op&) {}

// Memory that ops of a device share, as the CUDA backend allocates it.
Buffer<char> scratch, workspace;

/// The old buffer is freed before a larger one is allocated, as there.
void reserve(Buffer<char>& buffer, std::size_t bytes) {
  if (bytes <= buffer.size()) return;
  const AllocationTag tag(MemoryKind::kWorkspace, "the workspace of ops");
  buffer = {};
  buffer = Buffer<char>(bytes, counted_memory(/*on_host=*/false));
}

template <bool kIsEmulated, class Op>
void count(const Op& op, const char* entry) {
  meet(op);
  if constexpr (!kIsEmulated) {
    reserve(scratch, scratch_bytes(op));
    if (uses_library_gemm(op)) reserve(workspace, kGemmWorkspaceBytes);
  }
  Counts::Row& row = mutable_counts().rows[{name_of(op, entry), product_type(op)}];
  const profile::Cost cost = cost_of(op, counted_memory(kIsEmulated));
  ++row.calls;
  row.cost.flops += cost.flops;
  row.cost.bytes += cost.bytes;
}

template <bool kIsEmulated>
Backend counting_backend() {
  Backend counting{.name = "counted",
                   .instructions = "none",
                   .gemm_library = "none",
                   .device = "none",
                   .native_bf16 = true,
                   .memory = &counted_memory(kIsEmulated)};
#define SLIPWAY_OP(entry, Op) counting.entry = [](Stream&, const Op& op) { count<kIsEmulated>(op, #entry); };
  SLIPWAY_EACH_OP(SLIPWAY_OP)
#undef SLIPWAY_OP
  return counting;
}

}  // namespace

const Backend& shape_only_backend(bool on_host) {
  static const Backend host = counting_backend<true>(), device = counting_backend<false>();
  return on_host ? host : device;
}

CountedMemory& counted_memory(bool on_host) {
  // Never destroyed, for whoever frees memory when the program ends.
  static CountedMemory &host = *new CountedMemory(true), &device = *new CountedMemory(false);
  return on_host ? host : device;
}

void reset_counted_memory(bool on_host) {
  if (!on_host) scratch = {}, workspace = {};
  counted_memory(on_host).trim_and_reset_peak();
}

const Counts& counts() { return mutable_counts(); }
void reset_counts() {
  mutable_counts() = {};
  products_met().clear();
}
std::vector<MatMul> counted_gemms() {
  std::vector<MatMul> all;
  for (const auto& [key, op] : products_met()) all.push_back(op);
  return all;
}

}  // namespace slipway
