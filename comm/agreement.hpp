// Collective error handling: an error on one rank is thrown on all ranks.
#pragma once

#include <functional>

#include "comm/group.hpp"

namespace slipway {

/// Runs `work` on the current rank; when it throws on any rank, throws the error of the lowest such rank on every rank.
/// A rank without work passes an empty function.
///
/// Ranks    collective.
/// Errors   the error of `work`, the same on all ranks; a file-system error as Fault::kStorage, out of memory as
///          Fault::kDevice.
void run_collectively(Group& group, const std::function<void()>& work);

}  // namespace slipway
