// The CUDA backend on the GPU that is there.
#include "kernels/backend/device.hpp"
#include "tests/support/kernels_backends.hpp"

namespace slipway::testing_support {
namespace {

const Backend& gpu() {
  static const Backend& backend = backend_for("cuda");
  return backend;
}

}  // namespace

std::span<const Backend* const> backends_under_test() {
  static const Backend synchronous_backend = [] {
    Backend backend = gpu();
#define SLIPWAY_OP(entry, Op)                        \
  backend.entry = [](Stream& stream, const Op& op) { \
    gpu().entry(stream, op);                         \
    gpu().memory->synchronize();                     \
  };
    SLIPWAY_EACH_OP(SLIPWAY_OP)
#undef SLIPWAY_OP
    return backend;
  }();
  static const Backend* const backends[] = {&synchronous_backend};
  return backends;
}

Stream stream_under_test() { return {}; }

}  // namespace slipway::testing_support
