// The CUDA backend on the GPU that is there.
#include "kernels/backend/device.hpp"
#include "tests/support/kernels_backends.hpp"

namespace slipway::testing_support {
namespace {

const Backend& gpu() {
  static const Backend& table = backend_for("cuda");
  return table;
}

}  // namespace

std::span<const Backend* const> backends_under_test() {
  static const Backend finished = [] {
    Backend table = gpu();
#define SLIPWAY_OP(entry, Op)                      \
  table.entry = [](Stream& stream, const Op& op) { \
    gpu().entry(stream, op);                       \
    gpu().memory->synchronize();                   \
  };
    SLIPWAY_EACH_OP(SLIPWAY_OP)
#undef SLIPWAY_OP
    return table;
  }();
  static const Backend* const all[] = {&finished};
  return all;
}

Stream stream_under_test() { return {}; }

}  // namespace slipway::testing_support
