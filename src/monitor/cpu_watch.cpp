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

std::string CpuWatch::check(std::int64_t step, bool saved) {
  saved_ = saved_ || saved;
  if (warned_ || !is_checked(step)) return "";
  RankCpus mine;
  const std::optional<CpuTimes> now = before_ ? cpu_times() : std::nullopt;
  if (now) {
    const CpuShare share = share_between(*before_, *now);
    mine = {now->wall_s - before_->wall_s, share.cpus, saved_ ? 0 : share.wait};
  }
  std::vector<RankCpus> ranks(static_cast<std::size_t>(all_.size()));
  all_.all_gather(&mine, sizeof mine, ranks.data());
  if (std::ranges::max(ranks, {}, &RankCpus::wall_s).wall_s < kMinWall_s) return "";  // wait for the next check
  before_ = now;
  saved_ = false;
  const std::string warning = warning_of(ranks, threads_, step);
  warned_ = !warning.empty();
  return warning;
}

std::string warning_of(std::span<const RankCpus> ranks, int threads, std::int64_t step) {
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
