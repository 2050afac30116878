// A group with buffers in device memory whose communication is staged through host memory.
#pragma once

#include <memory>

#include "comm/group.hpp"
#include "kernels/backend/backend.hpp"

namespace slipway {

/// The ranks of `host`, which must outlive this group, for buffers in `backend.memory`. Reductions run on `backend`, in
/// the canonical order.
///
/// Cost     each message is copied to host memory, sent, and copied to the peer's device, one after the other.
std::unique_ptr<Group> make_staged_group(Group& host, const Backend& backend);

}  // namespace slipway
