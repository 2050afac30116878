// A training step on a shape-only backend (a "meta device"): ops, messages and bytes of memory are counted, not
// computed.
#pragma once

#include <string>
#include <vector>

#include "kernels/instrument/shape_only.hpp"
#include "src/config/run_config.hpp"

namespace slipway {

/// What one rank sends to a group.
struct CommVolume {
  std::int64_t messages = 0;
  double bytes = 0;  ///< that it sends; it receives as many
};

/// Messages, and the ops that they overlap with.
struct OverlappedComm {
  CommVolume messages;
  Counts ops;
};

/// What rank 0 of data_ranks x config.parallel.tensor does, on a device.
struct DryRun {
  Counts micro_batch, update;     ///< ops of one micro-batch, forward and backward; and of what comes once a step
  CommVolume micro_batch_tensor;  ///< messages of one micro-batch among tensor ranks, but for
  std::vector<OverlappedComm> micro_batch_overlapped;
  CommVolume update_tensor, update_data;
  int micro_batches = 0;         ///< of a step, on this rank
  std::vector<MatMul> matmuls;   ///< one of each shape, on unallocated memory
  std::uint64_t peak_bytes = 0;  ///< of the device's memory: weights, moments, activations, scratch of groups
};

/// Runs the trainer's own parts through one step of the run that `config`, resolved, describes. Every sequence is
/// one document, which is the most that attention can have to do.
/// Cost     some megabytes, and seconds for a model of billions.
DryRun dry_run(const RunConfig& config, const ModelSpec& model, int data_ranks);

}  // namespace slipway
