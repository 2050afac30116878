// The CUDA backend on the GPU that is there.
#include "kernels/device.hpp"
#include "tests/support/kernels_subjects.hpp"

namespace slipway::testing_support {
namespace {

const KernelTable& gpu() {
  static const KernelTable& table = kernels_for("cuda");
  return table;
}

}  // namespace

std::span<const KernelTable* const> tables_under_test() {
  static const KernelTable finished = [] {
    KernelTable table = gpu();
#define SLIPWAY_OP(entry, Op)                      \
  table.entry = [](Stream& stream, const Op& op) { \
    gpu().entry(stream, op);                       \
    gpu().memory->synchronize();                          \
  };
    SLIPWAY_EACH_OP(SLIPWAY_OP)
#undef SLIPWAY_OP
    return table;
  }();
  static const KernelTable* const all[] = {&finished};
  return all;
}

Stream stream_under_test() { return {}; }

}  // namespace slipway::testing_support
