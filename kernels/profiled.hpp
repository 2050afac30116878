// A kernel table that tells the profiler what each op did and how long it took.
#pragma once

#include "kernels/table.hpp"

namespace slipway {

/// The same ops with a span around each, carrying its counted operations and bytes. One table may be wrapped in a
/// process; asking again for the same one is harmless.
const KernelTable& profiled(const KernelTable& inner);

}  // namespace slipway
