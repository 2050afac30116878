#include "launch/run_folder/resume.hpp"

#include "comm/agreement.hpp"
#include "src/core/log.hpp"
#include "src/train/set_aside.hpp"

namespace slipway {

ResumePoint choose_checkpoint(const std::filesystem::path& run, const std::string& which, Group& all) {
  std::string name;
  std::int64_t step = 0;
  std::size_t complete = 0;
  run_collectively(all, [&] {
    if (all.rank() != 0) return;
    complete = list_checkpoints(run / "checkpoints").size();
    if (complete == 0 && which.empty()) return;
    const CheckpointRef ref = find_checkpoint(run, which);
    if (!set_aside_suffix(ref.folder).empty()) check_restorable(run, ref);
    step = ref.step;
    name = ref.folder.filename().string();
  });
  name = all.all_gather_text(name).front();
  step = std::stoll(all.all_gather_text(std::to_string(step)).front());
  if (name.empty())
    return {{}, join("no complete checkpoint in ", run.string(), " yet: beginning this run again at its first step")};
  const std::string from = !set_aside_suffix(name).empty()
                               ? join(name, ")")
                               : join(which.empty() ? "newest of " : "chosen among ", complete,
                                      complete == 1 ? " complete checkpoint)" : " complete checkpoints)");
  return {CheckpointRef{step, run / "checkpoints" / name}, join("resuming from step ", step, " (", from)};
}

void verify_together(const std::filesystem::path& checkpoint, Group& all) {
  run_collectively(all, [&] { CheckpointReader(checkpoint).verify_all({.index = all.rank(), .of = all.size()}); });
}

void keep_compute_dtype(RunConfig& config, const CheckpointInfo& info) {
  const std::string before = info.build.value("compute", std::string(name(config.compute_dtype())));
  if (before == name(config.compute_dtype())) return;
  log::info(join("numerics.compute = auto would now be ", name(config.compute_dtype()), "; this run goes on in ",
                 before, ", as it began"));
  config.resumed_compute = before;
}

}  // namespace slipway
