// main() of test programs that run under mpirun: every rank runs every test, rank 0 reports, and all have the same exit
// status.
#pragma once

#include "comm/world.hpp"

namespace slipway {

/// All ranks of this test run. Tests use EXPECT after collective calls, so that all ranks make the same calls.
World& test_world();

}  // namespace slipway
