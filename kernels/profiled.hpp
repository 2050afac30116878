// Wraps a backend so that each op records a profiler span: what it computed and how long it took.
#pragma once

#include "kernels/table.hpp"

namespace slipway {

/// The same ops with a span around each, carrying its counted operations and bytes. One table may be wrapped in a
/// process; asking again for the same one is harmless.
const KernelTable& profiled(const KernelTable& inner);

}  // namespace slipway
