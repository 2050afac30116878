#include "src/plan/roofline.hpp"

#include <algorithm>
#include <cstdio>
#include <map>

#include "src/core/words.hpp"
#include "src/model/model_tensors.hpp"

namespace slipway {
namespace {

// NVIDIA's data sheets; numbers with sparsity are halved. Networks: one adapter a GPU, as DGX systems have it.
constexpr GpuSpec kGpus[] = {
    {"a100", "NVIDIA A100 SXM4 80 GB", 312e12, 19.5e12, 2.039e12, 80e9, 300e9, 25e9, 25e9, 0.55},
    {"h100", "NVIDIA H100 SXM5 80 GB", 989e12, 67e12, 3.35e12, 80e9, 450e9, 50e9, 55e9, 0.33},
    {"h200", "NVIDIA H200 SXM5 141 GB", 989e12, 67e12, 4.8e12, 141e9, 450e9, 50e9, 55e9, 0.33},
    {"b200", "NVIDIA B200 SXM6 180 GB", 2250e12, 75e12, 7.7e12, 180e9, 900e9, 50e9, 55e9, 0.16},
};

constexpr int kGpusPerHost = 8;
constexpr double kMemoryEfficiency = 0.85;  // of the memory's, by kernels that only pass over it
constexpr double kLinkEfficiency = 0.75;
constexpr double kKernelLaunch_s = 2e-6, kGraphKernelLaunch_s = 1e-6, kMessageLatency_s = 15e-6;
constexpr double kMatmulEfficiency = 0.72;  // of the tensor cores' rate, by cublasLt: power limits large matmuls
constexpr double kF32Efficiency = 0.8;
constexpr double kAttentionGradEfficiency = 0.75;  // of attention's own share, by its gradient

bool is_matmul(const std::string& op) { return op.starts_with("matmul"); }
bool is_attention(const std::string& op) { return op.starts_with("attention"); }

RooflineRow make_row(const std::string& op, DType type, const Counts::Row& count, double launch_s, const GpuSpec& gpu) {
  RooflineRow row{.op = op, .calls = count.calls, .cost = count.cost};
  const bool uses_matmul = is_matmul(op) || is_attention(op), tensor_cores = uses_matmul && type == DType::kBf16;
  if (uses_matmul && type == DType::kF32) row.op += " (f32)";
  const double rate = tensor_cores ? gpu.bf16_flops_per_s : gpu.f32_flops_per_s,
               efficiency = !tensor_cores ? kF32Efficiency
                            : is_attention(op)
                                ? gpu.attention_efficiency * (op == "attention_grad" ? kAttentionGradEfficiency : 1)
                                : kMatmulEfficiency;
  const double arithmetic_s = row.cost.flops / rate, memory_s = row.cost.bytes / gpu.memory_bytes_per_s;
  row.memory_bound = memory_s > arithmetic_s;
  row.floor_s = std::max(arithmetic_s, memory_s);
  row.expected_s = std::max(arithmetic_s / efficiency, memory_s / kMemoryEfficiency) + launch_s;
  return row;
}

double comm_seconds(const CommVolume& volume, double bytes_per_s) {
  return volume.bytes / bytes_per_s / kLinkEfficiency + kMessageLatency_s * static_cast<double>(volume.messages);
}

RooflineRow comm_row(const char* group, const CommVolume& volume, double bytes_per_s) {
  RooflineRow row{.op = std::string("messages, ") + group, .calls = volume.messages, .memory_bound = true};
  row.cost.bytes = volume.bytes;
  row.floor_s = row.cost.bytes / bytes_per_s;
  row.expected_s = comm_seconds(volume, bytes_per_s);
  return row;
}

/// Messages among tensor ranks; those that overlap with ops count only for the time by which they take longer.
RooflineRow tensor_messages(const DryRun& run, const GpuSpec& gpu, double launch_s_per_call) {
  const double bytes_per_s = gpu.link_bytes_per_s;
  CommVolume exposed = run.micro_batch_tensor, all = exposed;
  double exposed_s = 0, floor_s = exposed.bytes / bytes_per_s;
  for (const OverlappedComm& one : run.micro_batch_overlapped) {
    double ops_s = 0, ops_floor_s = 0;
    for (const auto& [key, count] : one.ops.rows) {
      const RooflineRow row =
          make_row(key.first, key.second, count, launch_s_per_call * static_cast<double>(count.calls), gpu);
      ops_s += row.expected_s, ops_floor_s += row.floor_s;
    }
    exposed_s += std::max(0.0, comm_seconds(one.messages, bytes_per_s) - ops_s);
    floor_s += std::max(0.0, one.messages.bytes / bytes_per_s - ops_floor_s);
    all.messages += one.messages.messages, all.bytes += one.messages.bytes;
  }
  const double times = run.micro_batches;
  RooflineRow row = comm_row("tensor ranks", run.update_tensor, bytes_per_s);
  row.calls += all.messages * run.micro_batches;
  row.cost.bytes += all.bytes * times;
  row.floor_s += floor_s * times;
  row.expected_s += (comm_seconds(exposed, bytes_per_s) + exposed_s) * times;
  return row;
}

/// AdamW reads and writes two moments of each parameter where the host has them, both ways at once.
RooflineRow moment_transfer_row(const Counts& update, const GpuSpec& gpu) {
  constexpr double kAdamWFlops = 14, kBytesEachWay = 8;  // of a parameter
  RooflineRow row{.op = "moments over the bus", .memory_bound = true};
  const auto adamw = update.rows.find({"adamw", DType::kF32});
  if (adamw == update.rows.end()) return row;
  row.calls = adamw->second.calls;
  row.cost.bytes = 2 * kBytesEachWay * adamw->second.cost.flops / kAdamWFlops;
  row.floor_s = row.cost.bytes / 2 / gpu.host_bytes_per_s;
  row.expected_s = row.floor_s / kLinkEfficiency;
  return row;
}

}  // namespace

std::span<const GpuSpec> gpu_specs() { return kGpus; }

const GpuSpec& gpu_spec(const std::string& name) {
  std::string known;
  for (const GpuSpec& gpu : kGpus) {
    if (name == gpu.name) return gpu;
    known += join(known.empty() ? "" : ", ", gpu.name);
  }
  throw Error(Fault::kConfig, join("--gpu is '", name, "', but one of ", known, " is expected"));
}

Roofline roofline(const RunConfig& config, const ModelSpec& model, int data_parallel_size, const GpuSpec& gpu) {
  RunConfig on_gpu = config;
  on_gpu.on_host = false;
  const DryRun run = dry_run(on_gpu, model, data_parallel_size);
  Roofline result{.gpu = &gpu,
                  .ranks = data_parallel_size * config.parallel.tensor,
                  .tensor_parallel_size = config.parallel.tensor,
                  .peak_bytes = run.peak_bytes};
  std::map<std::pair<std::string, DType>, std::pair<Counts::Row, double>> step;  // with what starting its kernels takes
  const auto add = [&step](const Counts& counts, int times, double launch_s_per_call) {
    for (const auto& [key, count] : counts.rows) {
      auto& [sum, launch_s] = step[key];
      sum.calls += count.calls * times;
      sum.cost.flops += count.cost.flops * times;
      sum.cost.bytes += count.cost.bytes * times;
      launch_s += launch_s_per_call * static_cast<double>(count.calls) * times;
    }
  };
  const double launch_s_per_call = config.parallel.graphs ? kGraphKernelLaunch_s : kKernelLaunch_s;
  add(run.micro_batch, run.micro_batches, launch_s_per_call);
  add(run.update, 1, kKernelLaunch_s);
  for (const auto& [key, both] : step)
    result.rows.push_back(make_row(key.first, key.second, both.first, both.second, gpu));
  if (config.parallel.offload) result.rows.push_back(moment_transfer_row(run.update, gpu));
  const double data_bytes_per_s = result.ranks > kGpusPerHost ? gpu.network_bytes_per_s : gpu.link_bytes_per_s;
  if (config.parallel.tensor > 1) result.rows.push_back(tensor_messages(run, gpu, launch_s_per_call));
  if (data_parallel_size > 1) result.rows.push_back(comm_row("data ranks", run.update_data, data_bytes_per_s));
  std::ranges::sort(result.rows, std::ranges::greater(), &RooflineRow::expected_s);
  for (const RooflineRow& row : result.rows) result.floor_s += row.floor_s, result.step_s += row.expected_s;
  const double tokens = static_cast<double>(config.train.batch) * config.train.sequence;
  result.tokens_per_s = tokens / result.step_s;
  result.mfu = training_flops(model, tokens) / result.step_s / result.ranks / gpu.bf16_flops_per_s;
  return result;
}

Json to_json(const Roofline& r) {
  Json rows = Json::array();
  for (const RooflineRow& row : r.rows)
    rows.push_back({{"op", row.op},
                    {"calls", row.calls},
                    {"flops", row.cost.flops},
                    {"bytes", row.cost.bytes},
                    {"floor_seconds", row.floor_s},
                    {"expected_seconds", row.expected_s},
                    {"bound", row.memory_bound ? "memory" : "arithmetic"}});
  return {{"gpu", r.gpu->name},
          {"ranks", r.ranks},
          {"tensor_ranks", r.tensor_parallel_size},
          {"step_floor_seconds", r.floor_s},
          {"step_seconds", r.step_s},
          {"tokens_per_s", r.tokens_per_s},
          {"mfu", r.mfu},
          {"peak_bytes", r.peak_bytes},
          {"memory_bytes", r.gpu->memory_bytes},
          {"rows", rows}};
}

std::string format_table(const Roofline& r) {
  std::string text;
  char line[160];
  const auto add = [&](const char* pattern, auto... values) {
    std::snprintf(line, sizeof line, pattern, values...);
    text += line;
  };
  add("  %-26s %8s %10s %10s %10s %10s  %s\n", "op", "calls", "GFLOP", "GB", "floor, ms", "expected", "bound");
  for (const RooflineRow& row : r.rows)
    add("  %-26s %8lld %10.4g %10.4g %10.4g %10.4g  %s\n", row.op.c_str(), static_cast<long long>(row.calls),
        row.cost.flops / 1e9, row.cost.bytes / 1e9, row.floor_s * 1e3, row.expected_s * 1e3,
        row.op.starts_with("messages") ? "links"
        : row.memory_bound             ? "memory"
                                       : "arithmetic");
  add("  %-26s %8s %10s %10s %10.4g %10.4g\n", "a step", "", "", "", r.floor_s * 1e3, r.step_s * 1e3);
  add("  %-26s %.4g tokens/s on %s, MFU %.1f %%\n", "expected", r.tokens_per_s, pluralize(r.ranks, "GPU").c_str(),
      100 * r.mfu);
  add("  %-26s %.1f of %.0f GB%s\n", "memory of a GPU", static_cast<double>(r.peak_bytes) / 1e9,
      r.gpu->memory_bytes / 1e9,
      static_cast<double>(r.peak_bytes) > 0.97 * r.gpu->memory_bytes ? ": does not fit" : "");
  return text;
}

}  // namespace slipway
