// Whether a run fits into a GPU, before it begins.
#pragma once

#include "src/config/run_config.hpp"

namespace slipway {

/// Bytes of a GPU's memory that a rank of this run takes at once: a dry run's.
std::uint64_t peak_device_bytes(const RunConfig& config, const ModelSpec& model, int data_parallel_size);

/// `config` is resolved. Nothing on the CPU.
/// Errors   Fault::kDevice where the run needs more than is free, naming the smallest change that fits: norms
///          recomputed, else the next smaller micro-batch, else one with blocks recomputed, else more tensor ranks.
void check_device_memory(const RunConfig& config, const ModelSpec& model, int data_parallel_size,
                         const Backend& backend);

}  // namespace slipway
