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
std::uint64_t needed_bytes(const RunConfig& config, const ModelSpec& model, int data_ranks, std::uint64_t free) {
  constexpr std::uint64_t kFarTooMuch = 4;  // times what is free: a plan is nearer than that
  const std::uint64_t planned = plan_rank(config, model, data_ranks).memory.total();
  return planned / kFarTooMuch > free ? planned : peak_device_bytes(config, model, data_ranks);
}

/// Nothing where the ranks cannot share its micro-batches.
std::optional<std::uint64_t> wanted_bytes(const RunConfig& config, const ModelSpec& model, int data_ranks,
                                          std::uint64_t free) {
  try {
    return needed_bytes(config, model, data_ranks, free);
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::string change_that_fits(const RunConfig& config, const ModelSpec& model, int data_ranks, std::uint64_t free) {
  const MemoryEstimator bytes_of = [&](const RunConfig& changed) {
    return wanted_bytes(changed, model, data_ranks, free);
  };
  if (const auto least = bytes_of(smallest_run(config, data_ranks)); !least || *least <= free) {
    const std::string change = micro_batch_that_fits(config, bytes_of, free);
    if (!change.empty()) return change;
  }
  const std::string none = "no train.micro_batch fits, even with train.recompute = blocks: ";
  constexpr int kMaxTensorRanks = 8;  // of a host
  RunConfig divided = config;
  for (divided.parallel.tensor *= 2; divided.parallel.tensor <= kMaxTensorRanks; divided.parallel.tensor *= 2) {
    const auto bytes = wanted_bytes(divided, model, data_ranks, free);
    if (bytes && *bytes <= free)
      return join(none, "divide the model over ", divided.parallel.tensor,
                  " GPUs (mesh.tensor = ", divided.parallel.tensor, "), which would take ",
                  human_bytes(static_cast<double>(*bytes)), " of each");
  }
  return none + "choose a smaller model, or --device cpu";
}

}  // namespace

std::uint64_t peak_device_bytes(const RunConfig& config, const ModelSpec& model, int data_ranks) {
  // Pieces may come to lie otherwise than in a dry run, where a validation or a sample comes between other steps.
  constexpr std::uint64_t kMaxSlack = std::uint64_t{16} << 20;
  const std::uint64_t counted = dry_run(config, model, data_ranks).peak_bytes;
  return counted + std::min(counted / 256, kMaxSlack);
}

void check_device_memory(const RunConfig& config, const ModelSpec& model, int data_ranks, const Backend& backend) {
  if (backend.memory->is_host()) return;
  const std::uint64_t free = backend.memory->free_bytes(), needed = needed_bytes(config, model, data_ranks, free);
  if (needed <= free) return;
  throw Error(Fault::kDevice, join("this run needs ", human_bytes(static_cast<double>(needed)), " of ", backend.device,
                                   "'s memory, of which ", human_bytes(static_cast<double>(free)), " are free for it; ",
                                   change_that_fits(config, model, data_ranks, free)));
}

}  // namespace slipway
