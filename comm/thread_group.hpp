// Ranks as threads of one process: the tests' way to many ranks, under sanitizers too.
#pragma once

#include <memory>

#include "comm/group.hpp"

namespace slipway {

/// The members of a thread group with equal `color`, ordered by `key`, then by rank. Collective over `group`, which is
/// a member that run_thread_group made, or a group of one.
std::unique_ptr<Group> split_threads(Group& group, int color, int key, Reduction reduction);

}  // namespace slipway
