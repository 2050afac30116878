// Ranks that fail together: what one of them meets, all throw.
#pragma once

#include <functional>

#include "comm/group.hpp"

namespace slipway {

/// Runs `work` on this rank, and throws on every rank when any of them threw: the lowest one's fault and sentence.
/// A rank that has no part in the work gives an empty function.
///
/// Ranks    collective. Errors: what `work` threw, alike on all; a file system's error as Fault::kStorage, and memory
/// that
///          ran out as Fault::kDevice.
void do_together(Group& all, const std::function<void()>& work);

}  // namespace slipway
