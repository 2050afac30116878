// Ranks whose numbers lie in a device's memory, and whose messages go through the host's.
#pragma once

#include <memory>

#include "comm/group.hpp"
#include "kernels/table.hpp"

namespace slipway {

/// The ranks of `host`, which must outlive it, for numbers in `kernels.memory`. Sums are added by `kernels`, in the
/// order of every group's.
///
/// Cost     each message is read into the host's memory and written from it at the other end, one after the other.
std::unique_ptr<Group> make_staged_group(Group& host, const KernelTable& kernels);

}  // namespace slipway
