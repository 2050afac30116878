#include "src/train/device_memory.hpp"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "kernels/device.hpp"
#include "src/core/clock.hpp"
#include "src/train/dry_run.hpp"

namespace slipway {
namespace {

/// The bytes that the run would take; nothing where the ranks cannot share its micro-batches.
std::optional<std::uint64_t> wanted_bytes(const RunConfig& config, const ModelDescription& model, int data_ranks) {
  try {
    return device_bytes(config, model, data_ranks);
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::string change_that_fits(const RunConfig& config, const ModelDescription& model, int data_ranks,
                             std::uint64_t free) {
  const TrainConfig& now = config.train;
  // The cheapest changes first: norms made again, a smaller micro-batch, blocks made again.
  std::vector<std::string> levels{config.recompute() == Recompute::kNone ? "norms" : now.recompute};
  if (config.recompute() != Recompute::kBlocks) levels.emplace_back("blocks");
  for (const std::string& recompute : levels) {
    const bool other = recompute != now.recompute;
    for (int micro_batch = other ? now.micro_batch : now.micro_batch - 1; micro_batch >= 1; --micro_batch) {
      if (now.batch % micro_batch != 0) continue;
      RunConfig changed = config;
      changed.train.micro_batch = micro_batch, changed.train.recompute = recompute;
      const auto bytes = wanted_bytes(changed, model, data_ranks);
      if (!bytes || *bytes > free) continue;
      const bool smaller = micro_batch != now.micro_batch;
      return join(smaller ? join("train.micro_batch = ", micro_batch) : "", smaller && other ? " and " : "",
                  other ? join("train.recompute = ", recompute) : "", " would take ",
                  human_bytes(static_cast<double>(*bytes)));
    }
  }
  const std::string none = "no train.micro_batch fits, even with train.recompute = blocks: ";
  constexpr int kMostTensorRanks = 8;  // of a host
  RunConfig divided = config;
  for (divided.layout.tensor *= 2; divided.layout.tensor <= kMostTensorRanks; divided.layout.tensor *= 2) {
    const auto bytes = wanted_bytes(divided, model, data_ranks);
    if (bytes && *bytes <= free)
      return join(none, "divide the model over ", divided.layout.tensor, " GPUs (mesh.tensor = ", divided.layout.tensor,
                  "), which would take ", human_bytes(static_cast<double>(*bytes)), " of each");
  }
  return none + "choose a smaller model, or --device cpu";
}

}  // namespace

std::uint64_t device_bytes(const RunConfig& config, const ModelDescription& model, int data_ranks) {
  // Pieces may come to lie otherwise than in a dry run, where a validation or a sample comes between other steps.
  constexpr std::uint64_t kMostSlack = std::uint64_t{16} << 20;
  const std::uint64_t counted = dry_run(config, model, data_ranks).peak_bytes;
  return counted + std::min(counted / 256, kMostSlack);
}

void check_device_memory(const RunConfig& config, const ModelDescription& model, int data_ranks,
                         const KernelTable& kernels) {
  if (kernels.memory->is_host()) return;
  const std::uint64_t needed = device_bytes(config, model, data_ranks), free = kernels.memory->free_bytes();
  if (needed <= free) return;
  throw Error(Fault::kDevice, join("this run needs ", human_bytes(static_cast<double>(needed)), " of ", kernels.device,
                                   "'s memory, of which ", human_bytes(static_cast<double>(free)), " are free for it; ",
                                   change_that_fits(config, model, data_ranks, free)));
}

}  // namespace slipway
