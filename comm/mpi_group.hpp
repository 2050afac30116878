// MPI for the rest of comm/, without a type of MPI's: its start and end, and groups over communicators.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "comm/group.hpp"

namespace slipway::mpi {

/// Starts MPI on this thread, which alone may use it from now on. Errors: Fault::kComm.
void start();
void finish();
bool running();
std::string version();  ///< the library's own words up to the first comma; needs no start()
[[noreturn]] void abort(int status);

std::unique_ptr<Group> world_group();
std::unique_ptr<Group> split(int color, int key, Reduction reduction);  ///< of the world; collective

/// Longer messages travel in parts of this size. For tests; the default lies below MPI's 2^31.
void limit_message_bytes(std::size_t bytes);

}  // namespace slipway::mpi
