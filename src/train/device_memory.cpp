#include "src/train/device_memory.hpp"

#include <optional>

#include "kernels/device.hpp"
#include "src/core/clock.hpp"
#include "src/train/dry_run.hpp"

namespace slipway {
namespace {

/// The bytes that the run would take with another micro-batch; nothing where the ranks cannot share such ones.
std::optional<std::uint64_t> bytes_with(RunConfig config, const ModelDescription& model, int data_ranks,
                                        int micro_batch, bool recompute) {
  config.train.micro_batch = micro_batch, config.train.recompute = recompute;
  try {
    return device_bytes(config, model, data_ranks);
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::string change_that_fits(const RunConfig& config, const ModelDescription& model, int data_ranks,
                             std::uint64_t free) {
  const int now = config.train.micro_batch;
  for (const bool recompute : {config.train.recompute, true}) {
    for (int micro_batch = recompute == config.train.recompute ? now - 1 : now; micro_batch >= 1; --micro_batch) {
      if (config.train.batch % micro_batch != 0) continue;
      const auto bytes = bytes_with(config, model, data_ranks, micro_batch, recompute);
      if (!bytes || *bytes > free) continue;
      return join(micro_batch == now ? "" : join("train.micro_batch = ", micro_batch),
                  micro_batch != now && recompute != config.train.recompute ? " and " : "",
                  recompute == config.train.recompute ? "" : "train.recompute = on", " would take ",
                  human_bytes(static_cast<double>(*bytes)));
    }
  }
  const std::string none = "no train.micro_batch fits, even with train.recompute = on: ";
  constexpr int kMostTensorRanks = 8;  // of a host
  RunConfig divided = config;
  for (divided.layout.tensor *= 2; divided.layout.tensor <= kMostTensorRanks; divided.layout.tensor *= 2) {
    const auto bytes = bytes_with(divided, model, data_ranks, now, config.train.recompute);
    if (bytes && *bytes <= free)
      return join(none, "divide the model over ", divided.layout.tensor, " GPUs (mesh.tensor = ", divided.layout.tensor,
                  "), which would take ", human_bytes(static_cast<double>(*bytes)), " of each");
  }
  return none + "choose a smaller model, or --device cpu";
}

}  // namespace

std::uint64_t device_bytes(const RunConfig& config, const ModelDescription& model, int data_ranks) {
  return dry_run(config, model, data_ranks).peak_bytes + kProductWorkspaceBytes;
}

void check_device_memory(const RunConfig& config, const ModelDescription& model, int data_ranks,
                         const KernelTable& kernels) {
  if (kernels.memory->is_host()) return;
  const std::uint64_t needed = device_bytes(config, model, data_ranks), free = kernels.memory->free_bytes();
  if (needed <= free) return;
  throw Error(Fault::kDevice, join("this run needs ", human_bytes(static_cast<double>(needed)), " of ", kernels.device,
                                   "'s memory, of which ", human_bytes(static_cast<double>(free)), " are free; ",
                                   change_that_fits(config, model, data_ranks, free)));
}

}  // namespace slipway
