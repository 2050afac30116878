#include "src/train/set_aside.hpp"

#include <limits>

#include "src/core/error.hpp"
#include "src/core/file.hpp"
#include "src/core/json.hpp"
#include "src/core/log.hpp"
#include "src/monitor/metrics.hpp"

namespace slipway {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMaxStep = std::numeric_limits<std::int64_t>::max();

fs::path metrics_aside(const fs::path& run, const std::string& suffix) { return run / (kMetricsName + suffix); }
fs::path best_aside(const fs::path& run, const std::string& suffix) { return run / ("best.json" + suffix); }

/// Runs `work`; turns errors of the file system into Fault::kStorage.
template <class Work>
auto with_storage_errors(const fs::path& run, Work&& work) {
  try {
    return work();
  } catch (const fs::filesystem_error& error) {
    throw Error(Fault::kStorage, join("cannot set checkpoints of ", run.string(), " aside: ", error.code().message()));
  }
}

}  // namespace

std::string set_aside(const fs::path& run, std::int64_t step) {
  const fs::path checkpoints = run / "checkpoints", best = checkpoints / "best.json";
  const auto refs = list_checkpoints(checkpoints);
  if (refs.empty() || refs.back().step <= step) return "";
  const std::string suffix = unused_set_aside_suffix(checkpoints);
  atomic_write_file(metrics_aside(run, suffix), metrics_lines(run / kMetricsName, step + 1, kMaxStep));
  const bool has_best = fs::exists(best);
  if (has_best) atomic_write_file(best_aside(run, suffix), read_file(best, Fault::kStorage));
  std::string steps;
  const auto moved = set_aside_after(checkpoints, step, suffix);
  for (const std::int64_t later_step : moved) steps += (steps.empty() ? "" : ", ") + std::to_string(later_step);
  return join("set aside, all ending in ", suffix, ": the checkpoints after step ", step, " (", steps,
              has_best ? "), their lines of metrics.jsonl, and best.json" : ") and their lines of metrics.jsonl",
              "; --resume ", run.string(), " --checkpoint ", checkpoint_name(moved.back()), suffix,
              " goes back to them");
}

void check_restorable(const fs::path& run, const CheckpointRef& aside) {
  if (fs::exists(metrics_aside(run, set_aside_suffix(aside.folder)))) return;
  throw Error(Fault::kStorage, join(aside.folder.string(),
                                    " was set aside without its lines of metrics.jsonl, as earlier versions did: go on "
                                    "from it in a new run with --fork ",
                                    aside.folder.string(), " --run NEW"));
}

std::int64_t restore_set_aside(const fs::path& run, const CheckpointRef& aside) {
  return with_storage_errors(run, [&] {
    check_restorable(run, aside);
    const std::string suffix = set_aside_suffix(aside.folder),
                      metrics_text = metrics_lines(metrics_aside(run, suffix), 1, kMaxStep);
    const std::int64_t shared_step =
        metrics_text.empty()
            ? aside.step
            : Json::parse(metrics_text.substr(0, metrics_text.find('\n')))["step"].get<std::int64_t>() - 1;
    if (const std::string moved = set_aside(run, shared_step); !moved.empty()) log::info(moved);
    atomic_write_file(run / kMetricsName, metrics_lines(run / kMetricsName, 1, shared_step) +
                                              metrics_lines(metrics_aside(run, suffix), shared_step + 1, aside.step));
    bool restored_all = true;
    for (const CheckpointRef& ref : list_set_aside(run / "checkpoints")) {
      if (set_aside_suffix(ref.folder) != suffix) continue;
      if (ref.step > aside.step) restored_all = false;
      else fs::rename(ref.folder, run / "checkpoints" / checkpoint_name(ref.step));
    }
    if (restored_all) fs::remove(metrics_aside(run, suffix)), fs::remove(best_aside(run, suffix));
    log::info(join("brought back: what ended in ", suffix, ", up to step ", aside.step));
    return shared_step;
  });
}

}  // namespace slipway
