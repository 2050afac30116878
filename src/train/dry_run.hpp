// A step walked through without computing it: every op, every message and every byte of memory, counted.
#pragma once

#include <string>
#include <vector>

#include "kernels/counted.hpp"
#include "src/train/config.hpp"

namespace slipway {

/// What one rank sends to a group.
struct Traffic {
  std::int64_t messages = 0;
  double bytes = 0;  ///< that it sends; it receives as many
};

/// Messages, and the ops that they travel beside.
struct Beside {
  Traffic messages;
  Counts ops;
};

/// What rank 0 of data_ranks x config.layout.tensor does, in a device's memory.
struct DryRun {
  Counts micro_batch, update;  ///< ops of one micro-batch, forward and backward; and of what comes once a step
  Traffic micro_batch_tensor;  ///< messages of one micro-batch among tensor ranks, but for
  std::vector<Beside> micro_batch_beside;
  Traffic update_tensor, update_data;
  int micro_batches = 0;         ///< of a step, on this rank
  std::vector<MatMul> products;  ///< one of each shape, with memory that is not there
  std::uint64_t peak_bytes = 0;  ///< of the device's memory: weights, moments, activations, scratch of groups
};

/// Walks through a step of the run that `config`, resolved, describes, with the trainer's own parts. Every sequence is
/// one document, which is the most that attention can have to do.
/// Cost     some megabytes, and seconds for a model of billions.
DryRun dry_run(const RunConfig& config, const ModelDescription& model, int data_ranks);

}  // namespace slipway
