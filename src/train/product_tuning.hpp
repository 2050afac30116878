// Which algorithms a GPU's products take in a run: the same on all ranks, and the same again when the run goes on.
#pragma once

#include <filesystem>

#include "comm/group.hpp"
#include "src/train/config.hpp"

namespace slipway {

/// Before the first step: takes the choices of RUN/products.txt where there are some; else, with runtime.tune, rank 0
/// times the algorithms for every product that the run will have. All ranks take the same. Nothing on the CPU.
/// Ranks    collective.
void settle_products(const RunConfig& config, const ModelDescription& model, int data_ranks, const KernelTable& kernels,
                     Group& all, const std::filesystem::path& run);

/// Writes what was chosen to RUN/products.txt. Nothing on the CPU.
void record_products(const KernelTable& kernels, const std::filesystem::path& run);

}  // namespace slipway
