#include "src/plan/device_memory_check.hpp"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "kernels/backend/device.hpp"
#include "src/core/clock.hpp"
#include "src/plan/dry_run.hpp"
#include "src/plan/memory_fit.hpp"
#include "src/plan/plan.hpp"

namespace slipway {
namespace {

/// The bytes that the run would take, exactly where they may fit: a dry run of what is far too much takes a long time
/// and much of the host's memory.
std::uint64_t needed_bytes(const RunConfig& config, const ModelSpec& model, int data_parallel_size,
                           std::uint64_t free_bytes) {
  constexpr std::uint64_t kFarTooMuch = 4;  // times what is free: a plan is nearer than that
  const std::uint64_t planned = plan_rank(config, model, data_parallel_size).memory.total();
  return planned / kFarTooMuch > free_bytes ? planned : peak_device_bytes(config, model, data_parallel_size);
}

/// Nothing where the ranks cannot share its micro-batches.
std::optional<std::uint64_t> try_needed_bytes(const RunConfig& config, const ModelSpec& model, int data_parallel_size,
                                              std::uint64_t free_bytes) {
  try {
    return needed_bytes(config, model, data_parallel_size, free_bytes);
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::string suggest_fix(const RunConfig& config, const ModelSpec& model, int data_parallel_size,
                        std::uint64_t free_bytes) {
  const MemoryEstimator bytes_of = [&](const RunConfig& changed) {
    return try_needed_bytes(changed, model, data_parallel_size, free_bytes);
  };
  if (const auto min_bytes = bytes_of(min_memory_config(config, data_parallel_size));
      !min_bytes || *min_bytes <= free_bytes) {
    const std::string suggestion = suggest_memory_fix(config, bytes_of, free_bytes);
    if (!suggestion.empty()) return suggestion;
  }
  const std::string hint = "no train.micro_batch fits, even with train.recompute = blocks: ";
  constexpr int kMaxTensorRanks = 8;  // of a host
  RunConfig sharded = config;
  for (sharded.parallel.tensor *= 2; sharded.parallel.tensor <= kMaxTensorRanks; sharded.parallel.tensor *= 2) {
    const auto bytes = try_needed_bytes(sharded, model, data_parallel_size, free_bytes);
    if (bytes && *bytes <= free_bytes)
      return join(hint, "divide the model over ", sharded.parallel.tensor,
                  " GPUs (mesh.tensor = ", sharded.parallel.tensor, "), which would take ",
                  human_bytes(static_cast<double>(*bytes)), " of each");
  }
  return hint + "choose a smaller model, or --device cpu";
}

}  // namespace

std::uint64_t peak_device_bytes(const RunConfig& config, const ModelSpec& model, int data_parallel_size) {
  // Pieces may come to lie otherwise than in a dry run, where a validation or a sample comes between other steps.
  constexpr std::uint64_t kMaxSlack = std::uint64_t{16} << 20;
  const std::uint64_t counted = dry_run(config, model, data_parallel_size).peak_bytes;
  return counted + std::min(counted / 256, kMaxSlack);
}

void check_device_memory(const RunConfig& config, const ModelSpec& model, int data_parallel_size,
                         const Backend& backend) {
  if (backend.memory->is_host()) return;
  const std::uint64_t free_bytes = backend.memory->free_bytes(),
                      needed = needed_bytes(config, model, data_parallel_size, free_bytes);
  if (needed <= free_bytes) return;
  throw Error(Fault::kDevice, join("this run needs ", human_bytes(static_cast<double>(needed)), " of ", backend.device,
                                   "'s memory, of which ", human_bytes(static_cast<double>(free_bytes)),
                                   " are free for it; ", suggest_fix(config, model, data_parallel_size, free_bytes)));
}

}  // namespace slipway
