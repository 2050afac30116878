// GEMM autotuning on GPUs: which algorithm each matmul uses; the same on all ranks, and again when the run is resumed.
#pragma once

#include <filesystem>

#include "comm/group.hpp"
#include "src/config/run_config.hpp"

namespace slipway {

/// Before the first step: loads RUN/gemm_algorithms.txt where it exists; else, with runtime.tune, rank 0 times the
/// algorithms for every matmul of the run. All ranks use the same. Does nothing on the CPU.
/// Ranks    collective.
void load_or_tune_gemms(const RunConfig& config, const ModelSpec& model, int data_parallel_size, const Backend& backend,
                        Group& world_group, const std::filesystem::path& run);

/// Writes what was chosen to RUN/gemm_algorithms.txt. Does nothing on the CPU.
void save_gemm_choices(const Backend& backend, const std::filesystem::path& run);

}  // namespace slipway
