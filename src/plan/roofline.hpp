// Roofline model of a training step on a GPU: the lower bound of its time, and the expected time.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "src/core/json.hpp"
#include "src/plan/dry_run.hpp"

namespace slipway {

/// The manufacturer's figures for a GPU: dense, at full clocks.
struct GpuSpec {
  const char* name = "";        ///< "h100"
  const char* full_name = "";   ///< "NVIDIA H100 SXM5 80 GB"
  double bf16_flops_per_s = 0;  ///< tensor cores, accumulating in f32
  double f32_flops_per_s = 0;   ///< without tensor cores
  double memory_bytes_per_s = 0;
  double memory_bytes = 0;
  double link_bytes_per_s = 0;     ///< to GPUs of the same host, one way
  double network_bytes_per_s = 0;  ///< to other hosts, one way, a GPU's part
  double host_bytes_per_s = 0;     ///< to the host's memory, one way
  /// The fraction of bf16_flops_per_s that attention by mma.sync is expected to reach. It is lower on newer chips,
  /// whose full rate needs other instructions.
  double attention_efficiency = 0;
};
std::span<const GpuSpec> gpu_specs();
/// Errors   Fault::kConfig listing the names.
const GpuSpec& gpu_spec(const std::string& name);

/// One kind of op over a whole step of one rank.
struct RooflineRow {
  std::string op;
  std::int64_t calls = 0;
  profile::Cost cost;
  double floor_s = 0;         ///< the greater of FLOPs / peak rate and bytes / peak bandwidth
  double expected_s = 0;      ///< with the fractions of both that are reached (docs/gpu.md), plus launch latency
  bool memory_bound = false;  ///< whether memory sets floor_s
};

struct Roofline {
  const GpuSpec* gpu = nullptr;
  int ranks = 1, tensor_parallel_size = 1;
  std::vector<RooflineRow> rows;  ///< the costliest first; messages among them
  double floor_s = 0, step_s = 0;
  double tokens_per_s = 0;       ///< of all ranks
  double mfu = 0;                ///< 6 x matmul parameters x tokens / (step_s x ranks x bf16_flops)
  std::uint64_t peak_bytes = 0;  ///< of a rank, without what CUDA and its libraries take
};

/// `config` is resolved.
Roofline roofline(const RunConfig& config, const ModelSpec& model, int data_parallel_size, const GpuSpec& gpu);
Json to_json(const Roofline& roofline);
std::string format_table(const Roofline& roofline);

}  // namespace slipway
