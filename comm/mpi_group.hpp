// MPI for the rest of comm/, which does not include mpi.h: initialization, and groups over communicators.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "comm/group.hpp"

namespace slipway::mpi {

/// Starts MPI on this thread, which alone may use it from now on. Errors: Fault::kComm.
void init();
void finalize();
bool is_initialized();
std::string version();  ///< the library's own words up to the first comma; needs no init()
[[noreturn]] void abort(int status);

std::unique_ptr<Group> world_group();
std::unique_ptr<Group> split(int color, int key, Reduction reduction);  ///< of the world; collective

/// Longer messages travel in parts of this size. For tests; the default lies below MPI's 2^31.
void set_max_message_bytes(std::size_t bytes);

}  // namespace slipway::mpi
