// A GPU's memory as the rest of the program asks for it.
#pragma once

#include <string>

#include "src/core/memory_space.hpp"

namespace slipway::cuda {

/// Memory of the GPU that this process has taken. Everything happens in the main queue, so in order with the ops in it.
MemorySpace& memory();

/// A piece of it whatever it holds, for `what`, counted with the rest. Errors: as MemorySpace::take.
void* take_as_it_is(const std::string& what, std::size_t bytes);
void give_back(void* block) noexcept;

/// Another number whenever a piece was taken or given back: while it stays, all addresses do.
std::uint64_t memory_generation();

}  // namespace slipway::cuda
