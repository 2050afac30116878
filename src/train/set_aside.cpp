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

constexpr std::int64_t kLast = std::numeric_limits<std::int64_t>::max();

fs::path metrics_aside(const fs::path& run, const std::string& ending) { return run / (kMetricsName + ending); }
fs::path best_aside(const fs::path& run, const std::string& ending) { return run / ("best.json" + ending); }

/// Runs `work`; turns errors of the file system into Fault::kStorage.
template <class Work>
auto on_disk(const fs::path& run, Work&& work) {
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
  const std::string ending = unused_set_aside_suffix(checkpoints);
  replace_file(metrics_aside(run, ending), metrics_lines(run / kMetricsName, step + 1, kLast));
  const bool has_best = fs::exists(best);
  if (has_best) replace_file(best_aside(run, ending), read_file(best, Fault::kStorage));
  std::string steps;
  const auto moved = set_aside_after(checkpoints, step, ending);
  for (const std::int64_t later : moved) steps += (steps.empty() ? "" : ", ") + std::to_string(later);
  return join("set aside, all ending in ", ending, ": the checkpoints after step ", step, " (", steps,
              has_best ? "), their lines of metrics.jsonl, and best.json" : ") and their lines of metrics.jsonl",
              "; --resume ", run.string(), " --checkpoint ", checkpoint_name(moved.back()), ending,
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
  return on_disk(run, [&] {
    check_restorable(run, aside);
    const std::string ending = set_aside_suffix(aside.folder),
                      whole = metrics_lines(metrics_aside(run, ending), 1, kLast);
    const std::int64_t shared =
        whole.empty() ? aside.step : Json::parse(whole.substr(0, whole.find('\n')))["step"].get<std::int64_t>() - 1;
    if (const std::string moved = set_aside(run, shared); !moved.empty()) log::info(moved);
    replace_file(run / kMetricsName, metrics_lines(run / kMetricsName, 1, shared) +
                                         metrics_lines(metrics_aside(run, ending), shared + 1, aside.step));
    bool all = true;
    for (const CheckpointRef& ref : list_set_aside(run / "checkpoints")) {
      if (set_aside_suffix(ref.folder) != ending) continue;
      if (ref.step > aside.step) all = false;
      else fs::rename(ref.folder, run / "checkpoints" / checkpoint_name(ref.step));
    }
    if (all) fs::remove(metrics_aside(run, ending)), fs::remove(best_aside(run, ending));
    log::info(join("brought back: what ended in ", ending, ", up to step ", aside.step));
    return shared;
  });
}

}  // namespace slipway
