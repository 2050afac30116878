// A training step on a shape-only backend (a "meta device"): ops, messages and bytes of memory are counted, not
// computed.
#pragma once

#include <string>
#include <vector>

#include "kernels/instrument/meta_backend.hpp"
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

/// What rank 0 of data_parallel_size x config.parallel.tensor does, on a device or on a host.
struct DryRun {
  Counts micro_batch, update;     ///< ops of one micro-batch, forward and backward; and of what comes once a step
  CommVolume micro_batch_tensor;  ///< messages of one micro-batch among tensor ranks, but for
  std::vector<OverlappedComm> micro_batch_overlapped;
  CommVolume update_tensor, update_data;
  double matrix_bytes = 0;             ///< of update_data: matrices that Muon gathers and scatters
  int micro_batches = 0;               ///< of a step, on this rank
  std::vector<MatMul> matmuls;         ///< one of each shape, on unallocated memory
  std::uint64_t peak_bytes = 0;        ///< of the ops' memory: weights, moments, activations, scratch of groups
  BytesByKind memory;                  ///< of the same, when most was in use, without the gaps between blocks
  BytesByKind staging;                 ///< of pinned host memory beside a device's
  std::uint64_t checkpoint_bytes = 0;  ///< what this rank writes of a checkpoint: weights and moments that it owns

  double micro_batch_tensor_parallel_bytes() const;  ///< of all messages of one micro-batch among tensor ranks
};

/// Runs the trainer's own parts through one step of the run that `config`, resolved, describes, on a host or on a
/// device (config.on_host). Every sequence is one document, which is the most that attention can have to do.
///
/// Cost     some megabytes, and milliseconds for a model of billions; no more for many slots or micro-batches, but as
///          many as it has layers. One at a time in a process: others wait.
/// Errors   Fault::kConfig for a layout that cannot be, more than 2^22 tokens at once, more than 2^16 slots on a
///          data rank, or matrices of Muon of more than 2^40 elements on a rank.
DryRun dry_run(const RunConfig& config, const ModelSpec& model, int data_parallel_size);

}  // namespace slipway
