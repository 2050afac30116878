// Which tables the tests of kernels run on: one program links the CPU's, another one those of kernels/cuda on host
// threads.
#pragma once

#include <span>

#include "kernels/backend/backend.hpp"

namespace slipway::testing_support {

/// Their ops have finished when they return, and take any memory of the program.
std::span<const Backend* const> backends_under_test();
/// A stream for them.
Stream stream_under_test();

}  // namespace slipway::testing_support
