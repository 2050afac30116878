// Collective error handling: an error on one rank is thrown on all ranks.
#pragma once

#include <functional>

#include "comm/group.hpp"

namespace slipway {

/// Runs `work` on this rank, and throws on every rank when any of them threw: the lowest one's fault and sentence.
/// A rank that has no part in the work gives an empty function.
///
/// Ranks    collective.
/// Errors   what `work` threw, the same on all ranks; a file-system error as Fault::kStorage, out of memory as
///          Fault::kDevice.
void run_collectively(Group& all, const std::function<void()>& work);

}  // namespace slipway
