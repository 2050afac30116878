#include "src/core/cpu_wait.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <string>

#include "src/core/clock.hpp"

namespace slipway {

std::optional<CpuTimes> cpu_times() {
  constexpr double kSecondsPerNanosecond = 1e-9;
  CpuTimes times{.wall_s = now_s()};
  timespec cpu{};
  if (::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) != 0) return std::nullopt;
  times.cpu_s = static_cast<double>(cpu.tv_sec) + kSecondsPerNanosecond * static_cast<double>(cpu.tv_nsec);
  std::error_code code;  // threads come and go while their folders are read
  for (std::filesystem::directory_iterator task("/proc/self/task", code), end; !code && task != end;
       task.increment(code)) {
    std::ifstream file(task->path() / "schedstat");
    std::uint64_t ran_ns = 0, waited_ns = 0;
    if (!(file >> ran_ns >> waited_ns)) continue;
    const std::string name = task->path().filename().string();
    int tid = 0;
    std::from_chars(name.data(), name.data() + name.size(), tid);
    times.wait_s[tid] = kSecondsPerNanosecond * static_cast<double>(waited_ns);
  }
  return times.wait_s.empty() ? std::nullopt : std::optional(std::move(times));
}

CpuUsage cpu_usage_between(const CpuTimes& before, const CpuTimes& after) {
  const double wall_s = after.wall_s - before.wall_s;
  if (wall_s <= 0) return {};
  CpuUsage usage{.cpus = (after.cpu_s - before.cpu_s) / wall_s};
  for (const auto& [tid, waited_s] : after.wait_s) {
    const auto previous = before.wait_s.find(tid);
    if (previous == before.wait_s.end()) continue;  // started after `before`
    usage.wait = std::max(usage.wait, (waited_s - previous->second) / wall_s);
  }
  return usage;
}

}  // namespace slipway
