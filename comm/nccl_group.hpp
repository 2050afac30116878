// Ranks whose numbers lie in the memories of GPUs, and whose messages go from one to the other.
#pragma once

#include <memory>

#include "comm/group.hpp"
#include "kernels/table.hpp"

namespace slipway {

/// Whether every rank of `host` has a GPU of its own, and a way to the others'. Collective over `host`.
bool can_message(Group& host, const KernelTable& kernels);

/// The ranks of `host`, which must outlive it, for numbers in `kernels.memory`. Sums are added by `kernels`, in the
/// order of every group's. Collective over `host`; can_message() must hold.
///
/// Calls return when their work is queued; the host meets what went wrong when it waits for the device, which counts as
/// a wait for peers (set_watchdog).
std::unique_ptr<Group> make_nccl_group(Group& host, const KernelTable& kernels);

}  // namespace slipway
