#include "launch/run_folder/resume.hpp"

#include "comm/agreement.hpp"
#include "src/core/log.hpp"
#include "src/train/set_aside.hpp"

namespace slipway {

ResumePoint choose_checkpoint(const std::filesystem::path& run_folder, const std::string& selector,
                              Group& world_group) {
  std::string name;
  std::int64_t step = 0;
  std::size_t num_complete = 0;
  run_collectively(world_group, [&] {
    if (world_group.rank() != 0) return;
    num_complete = list_checkpoints(run_folder / "checkpoints").size();
    if (num_complete == 0 && selector.empty()) return;
    const CheckpointRef ref = find_checkpoint(run_folder, selector);
    if (!set_aside_suffix(ref.folder).empty()) check_restorable(run_folder, ref);
    step = ref.step;
    name = ref.folder.filename().string();
  });
  name = world_group.all_gather_text(name).front();
  step = std::stoll(world_group.all_gather_text(std::to_string(step)).front());
  if (name.empty())
    return {
        {},
        join("no complete checkpoint in ", run_folder.string(), " yet: beginning this run again at its first step")};
  const std::string source_description =
      !set_aside_suffix(name).empty() ? join(name, ")")
                                      : join(selector.empty() ? "newest of " : "chosen among ", num_complete,
                                             num_complete == 1 ? " complete checkpoint)" : " complete checkpoints)");
  return {CheckpointRef{step, run_folder / "checkpoints" / name},
          join("resuming from step ", step, " (", source_description)};
}

void verify_on_all_ranks(const std::filesystem::path& checkpoint, Group& world_group) {
  run_collectively(world_group, [&] {
    CheckpointReader(checkpoint).verify_all({.index = world_group.rank(), .count = world_group.size()});
  });
}

void keep_compute_dtype(RunConfig& config, const CheckpointInfo& info) {
  const std::string saved_dtype = info.build.value("compute", std::string(name(config.compute_dtype())));
  if (saved_dtype == name(config.compute_dtype())) return;
  log::info(join("numerics.compute = auto would now be ", name(config.compute_dtype()), "; this run goes on in ",
                 saved_dtype, ", as it began"));
  config.resumed_compute = saved_dtype;
}

}  // namespace slipway
