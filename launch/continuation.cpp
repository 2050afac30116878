#include "launch/continuation.hpp"

#include "src/core/log.hpp"

namespace slipway {

std::optional<CheckpointRef> choose_checkpoint(const std::filesystem::path& run, const std::string& which, Group& all) {
  std::string problem, step;
  std::size_t complete = 0;
  if (all.rank() == 0) {
    try {
      complete = list_checkpoints(run / "checkpoints").size();
      if (complete > 0 || !which.empty()) step = std::to_string(find_checkpoint(run, which).step);
    } catch (const Error& error) {
      problem = join(error.exit_status(), " ", error.what());
    }
  }
  const std::string found = all.all_gather_text(problem).front();
  if (!found.empty()) {
    const std::size_t space = found.find(' ');
    throw Error(static_cast<Fault>(std::stoi(found.substr(0, space))), found.substr(space + 1));
  }
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
  std::string problem;
  try {
    CheckpointReader(checkpoint).verify_all({.index = all.rank(), .of = all.size()});
  } catch (const Error& error) {
    problem = error.what();
  }
  for (const std::string& found : all.all_gather_text(problem))
    if (!found.empty()) throw Error(Fault::kStorage, found);
}

void keep_compute(RunConfig& config, const CheckpointInfo& info) {
  const std::string before = info.build.value("compute", std::string(name(config.compute())));
  if (before == name(config.compute())) return;
  log::info(join("numerics.compute = auto would now be ", name(config.compute()), "; this run goes on in ", before,
                 ", as it began"));
  config.compute_kept = before;
}

}  // namespace slipway
