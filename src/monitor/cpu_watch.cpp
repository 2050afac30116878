#include "src/monitor/cpu_watch.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <vector>

#include "src/core/words.hpp"

namespace slipway {
namespace {

constexpr double kMaxWait = 0.2;    // of the time: threads wait for the slowest, so a step takes that much longer
constexpr double kMinWall_s = 1.0;  // shorter intervals would report a momentary load
constexpr std::uint64_t kCheckEvery = 16;  // steps; before the first of these also at powers of two, for slow models

bool is_checked(std::int64_t step) {
  const auto s = static_cast<std::uint64_t>(step);
  return s % kCheckEvery == 0 || (s < kCheckEvery && std::has_single_bit(s));
}

}  // namespace

std::string CpuWatch::check(std::int64_t step, bool was_saving) {
  was_saving_ = was_saving_ || was_saving;
  if (has_warned_ || !is_checked(step)) return "";
  RankCpus local;
  const std::optional<CpuTimes> now = previous_ ? cpu_times() : std::nullopt;
  if (now) {
    const CpuUsage usage = cpu_usage_between(*previous_, *now);
    local = {now->wall_s - previous_->wall_s, usage.cpus, was_saving_ ? 0 : usage.wait};
  }
  std::vector<RankCpus> ranks(static_cast<std::size_t>(world_group_.size()));
  world_group_.all_gather(&local, sizeof local, ranks.data());
  if (std::ranges::max(ranks, {}, &RankCpus::wall_s).wall_s < kMinWall_s) return "";  // wait for the next check
  previous_ = now;
  was_saving_ = false;
  const std::string warning = cpu_warning(ranks, threads_, step);
  has_warned_ = !warning.empty();
  return warning;
}

std::string cpu_warning(std::span<const RankCpus> ranks, int threads, std::int64_t step) {
  const auto worst = std::ranges::max_element(ranks, {}, &RankCpus::wait);
  if (worst == ranks.end() || worst->wait < kMaxWait) return "";
  char cpus[16];
  std::snprintf(cpus, sizeof cpus, "%.1f", worst->cpus);
  return join("step ", step, ": rank ", worst - ranks.begin(), " got ", cpus, " CPUs for ",
              pluralize(threads, "thread"), threads == 1 ? ", which waited " : ", of which one waited ",
              std::lround(100 * worst->wait),
              " % of the time for a CPU: other programs use this machine, and threads wait for the slowest one; end "
              "them, or lower runtime.threads or the number of ranks");
}

}  // namespace slipway
