#include "kernels/backend/cpu_backend.hpp"
#include "tests/support/kernels_backends.hpp"

namespace slipway::testing_support {

std::span<const Backend* const> backends_under_test() { return all_backends(); }
Stream stream_under_test() { return {}; }

}  // namespace slipway::testing_support
