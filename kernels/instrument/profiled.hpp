// Wraps a backend so that each op records a profiler span: what it computed and how long it took.
#pragma once

#include "kernels/backend/backend.hpp"

namespace slipway {

/// The same ops with a span around each, carrying its counted operations and bytes. A process wraps the ops of one
/// device, as often as it likes.
Backend profiled(const Backend& inner);

}  // namespace slipway
