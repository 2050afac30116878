// Device memory behind the MemorySpace interface.
#pragma once

#include <string>

#include "src/core/memory_space.hpp"

namespace slipway::cuda {

/// The memory of the GPU that this process uses. Operations are ordered with the ops in the main stream.
MemorySpace& memory();

/// Allocates uninitialized device memory for `what`; counted like any other allocation. Errors: as
/// MemorySpace::allocate.
void* allocate_uninitialized(const std::string& what, std::size_t bytes);
void deallocate(void* block) noexcept;

/// Changes whenever memory is allocated or freed: all addresses are valid as long as it stays the same.
std::uint64_t memory_generation();

}  // namespace slipway::cuda
