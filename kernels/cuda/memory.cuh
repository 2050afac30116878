// A GPU's memory as the rest of the program asks for it.
#pragma once

#include "src/core/memory_space.hpp"

namespace slipway::cuda {

/// Memory of the GPU that this process has taken. Everything happens in the main queue, so in order with the ops in it.
MemorySpace& memory();

}  // namespace slipway::cuda
