// Finds the smallest change of keys with which a run fits into memory.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "src/config/run_config.hpp"

namespace slipway {

/// Bytes that a run with these keys takes on a rank; nothing where its ranks cannot share its micro-batches.
using MemoryEstimator = std::function<std::optional<std::uint64_t>(const RunConfig&)>;

/// A run with fewer bytes than all that a smaller micro-batch, more recomputation or fewer slots make of this one:
/// where it does not fit, none of them does.
RunConfig min_memory_config(RunConfig config, int data_parallel_size);

/// `train.micro_batch = 2 and train.recompute = blocks would take 3.2 GiB`: the cheapest change that fits into
/// `free_bytes` bytes: outputs of norms recomputed, a smaller micro-batch, blocks recomputed. Empty where none of them
/// does. Of more than 64 divisors of train.batch, 64 or fewer are tried.
std::string suggest_memory_fix(const RunConfig& config, const MemoryEstimator& bytes_of, std::uint64_t free_bytes);

}  // namespace slipway
