#include "launch/continuation.hpp"

#include "comm/agreement.hpp"
#include "src/core/log.hpp"

namespace slipway {

std::optional<CheckpointRef> choose_checkpoint(const std::filesystem::path& run, const std::string& which, Group& all) {
  std::string step;
  std::size_t complete = 0;
  do_together(all, [&] {
    if (all.rank() != 0) return;
    complete = list_checkpoints(run / "checkpoints").size();
    if (complete > 0 || !which.empty()) step = std::to_string(find_checkpoint(run, which).step);
  });
  step = all.all_gather_text(step).front();
  if (step.empty()) {
    log::info(join("no complete checkpoint in ", run.string(), " yet: beginning this run again at step 1"));
    return std::nullopt;
  }
  log::info(join("resuming from step ", step, which.empty() ? " (newest of " : " (chosen among ", complete,
                 complete == 1 ? " complete checkpoint)" : " complete checkpoints)"));
  const std::int64_t number = std::stoll(step);
  return CheckpointRef{number, run / "checkpoints" / checkpoint_name(number)};
}

void verify_together(const std::filesystem::path& checkpoint, Group& all) {
  do_together(all, [&] { CheckpointReader(checkpoint).verify_all({.index = all.rank(), .of = all.size()}); });
}

void keep_compute(RunConfig& config, const CheckpointInfo& info) {
  const std::string before = info.build.value("compute", std::string(name(config.compute())));
  if (before == name(config.compute())) return;
  log::info(join("numerics.compute = auto would now be ", name(config.compute()), "; this run goes on in ", before,
                 ", as it began"));
  config.compute_kept = before;
}

}  // namespace slipway
