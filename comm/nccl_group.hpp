// A group with buffers in GPU memory that communicates by NCCL.
#pragma once

#include <memory>

#include "comm/group.hpp"
#include "kernels/backend/backend.hpp"

namespace slipway {

/// Whether NCCL can be used: every rank of `host` has its own GPU and the library. Collective over `host`.
bool nccl_available(Group& host, const Backend& backend);

/// The ranks of `host`, which must outlive this group, for buffers in `backend.memory`. Reductions run on `backend`, in
/// the canonical order. Collective over `host`; nccl_available() must hold.
///
/// Calls are asynchronous: they return when their work is queued. Errors are reported when the host synchronizes with
/// the device, which the watchdog counts as a wait for peers (start_watchdog).
std::unique_ptr<Group> make_nccl_group(Group& host, const Backend& backend);

}  // namespace slipway
