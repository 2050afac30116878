// Whether a run fits into the memory of its hosts, before it begins.
#pragma once

#include <cstdint>
#include <string>

#include "comm/group.hpp"
#include "src/config/run_config.hpp"

namespace slipway {

/// What the ranks of a host may take of its memory.
struct HostMemoryBudget {
  int ranks = 1;                 ///< of this run on the host
  std::uint64_t free_bytes = 0;  ///< for all of them together, within the control group's limit; 0: nobody says
};

/// That of the host which has least for each of its ranks.
/// Ranks    collective.
HostMemoryBudget smallest_host_budget(Group& world_group, int local_size);

/// Bytes of a host's memory that a rank of this run takes: all of its plan on the CPU; on a GPU the moments, where
/// runtime.offload keeps them on the host. `config` is resolved.
std::uint64_t host_bytes(const RunConfig& config, const ModelSpec& model, int data_parallel_size);

/// Empty where the run fits; else why it does not, and the change that would: a smaller micro-batch or more
/// recomputation, fewer slots, shorter sequences, fewer ranks on a host.
std::string host_memory_shortfall(const RunConfig& config, const ModelSpec& model, int data_parallel_size,
                                  const HostMemoryBudget& budget);

/// Errors   Fault::kDevice with host_memory_shortfall(), as of a GPU's memory; Fault::kConfig where train.micro_batch x
///          train.sequence are more tokens than an op can count.
void check_host_memory(const RunConfig& config, const ModelSpec& model, int data_parallel_size,
                       const HostMemoryBudget& budget);
/// The second of them alone.
void check_row_count(const RunConfig& config);

}  // namespace slipway
