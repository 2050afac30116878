// Wraps a backend so that each op records a profiler span: what it computed and how long it took.
#pragma once

#include "kernels/backend/backend.hpp"

namespace slipway {

/// The same ops with a span around each, carrying its counted operations and bytes. A process can wrap only one table;
/// further calls with the same table return the same result.
const Backend& profiled(const Backend& inner);

}  // namespace slipway
